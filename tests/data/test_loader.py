"""Batches are normalised crops of the store, independent of the number of processes, with padding at zero."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.data.corpus import open_corpus
from unheard.data.loader import PretrainLoader
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.shard_layout import Dtype, Header, Index, Texts, quantise
from unheard.data.store import SpecStore, WaveStore
from unheard.data.windows import device_store
from unheard.data.windows.crops import CropSampler
from unheard.data.windows.device_store import DeviceStore, keep_on_device
from unheard.datasets.generate import make_sounds
from unheard.errors import ConfigError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
GRID = Grid.of(16, 32, (8, 8))
FRONTEND = LogMelConfig(n_mels=16)
STATISTICS = Statistics(tuple(np.linspace(-8, -5, 16)), tuple(np.linspace(3, 5, 16)))


@pytest.fixture(scope="module")
def store() -> SpecStore:
    rng = np.random.default_rng(0)
    frames = rng.integers(1, 100, 20)
    shards = [
        rng.normal(-7, 4, (frames[:12].sum(), 16)).astype(np.float16),
        rng.normal(-7, 4, (frames[12:].sum(), 16)).astype(np.float16),
    ]
    offset = np.concatenate([np.cumsum(part) - part for part in (frames[:12], frames[12:])])
    names = Texts.of([f"{i}.wav" for i in range(20)])
    index = Index(np.repeat([0, 1], [12, 8]), offset, frames, names, Texts.of([""] * 20), np.zeros(20), frames * 0.01)
    scalar = Statistics((-7.0,), (4.0,))
    return SpecStore(Header(FRONTEND, "float16", scalar, STATISTICS, "made up"), index, shards)


def loader(
    store: SpecStore, steps: range = range(4), short: str = "pad", share: tuple[int, int] = (0, 1)
) -> PretrainLoader:
    sampler = CropSampler(store.frames, 32, seed=3, short=short, align=8)
    return PretrainLoader(store, sampler, GRID, STATISTICS, BatchPlan(steps, RankSlice(8, *share)))


def batches(made: PretrainLoader) -> list[Batch]:
    with made:
        return list(made)


def test_a_batch_is_normalised_crops_of_the_named_clips(store: SpecStore) -> None:
    for batch in batches(loader(store)):
        assert batch.spec.shape == (8, 16, 32)
        assert batch.spec.dtype == torch.float32
        for row in range(8):
            start, n = round(float(batch.start_seconds[row]) / 0.01), int(batch.frames[row])
            clip = store.clip(int(batch.clips[row]))[start : start + n]
            wanted = torch.from_numpy(STATISTICS.normalise_frames(clip)).T
            assert torch.allclose(batch.spec[row, :, :n], wanted, atol=1e-5)
            assert not batch.spec[row, :, n:].any()
            assert torch.equal(batch.valid[row], GRID.valid(torch.tensor([n]))[0])


def test_joined_windows_are_full_and_gaps_are_zero(store: SpecStore) -> None:
    made = loader(store, short="join")
    for step, batch in zip(made.steps, batches(made), strict=True):
        mask = torch.from_numpy(made.sampler.pieces(*made.sampler.positions(step, 8)).mask(8, 32))
        assert batch.valid.all()
        assert not (batch.spec * ~mask[:, None, :]).any()
        assert batch.spec.abs().sum(1)[mask].all()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batch_of_one(store: SpecStore, processes: int) -> None:
    whole = batches(loader(store))
    shares = [batches(loader(store, share=(rank, processes))) for rank in range(processes)]
    for step, batch in enumerate(whole):
        for name, values in vars(batch).items():
            parts = [getattr(share[step], name) for share in shares]
            assert parts == [None] * processes if values is None else torch.equal(torch.cat(parts), values), name


def test_each_window_comes_with_the_one_before_it_for_any_number_of_processes(store: SpecStore) -> None:
    def mixing(rank: int, processes: int) -> list[Batch]:
        plan = BatchPlan(range(3), RankSlice(8, rank, processes), mixtures=True)
        return batches(PretrainLoader(store, CropSampler(store.frames, 32, seed=3), GRID, STATISTICS, plan))

    whole, shares = mixing(0, 1), [mixing(rank, 2) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert batch.previous is not None and batch.previous_frames is not None and batch.regions is not None
        assert torch.equal(batch.previous, batch.spec.roll(1, 0))
        assert torch.equal(batch.previous_frames, batch.frames.roll(1))
        assert (batch.regions == batch.regions[0]).all()
        for name in ("spec", "previous", "previous_frames", "regions"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name)), name


def test_starting_later_gives_the_same_batches(store: SpecStore) -> None:
    late, whole = batches(loader(store, range(2, 4))), batches(loader(store))
    assert all(
        torch.equal(a.spec, b.spec) and torch.equal(a.noise, b.noise) for a, b in zip(late, whole[2:], strict=True)
    )


def test_a_corpus_smaller_than_the_batch_repeats(store: SpecStore) -> None:
    sampler = CropSampler(store.frames[:2], 32, seed=0, crops="one")
    made = PretrainLoader(store, sampler, GRID, STATISTICS, BatchPlan(range(1), RankSlice(8)))
    (batch,) = batches(made)
    assert sorted(batch.clips.tolist()) == [0] * 4 + [1] * 4
    assert made.epoch_size == 2


def test_peek_does_not_consume(store: SpecStore) -> None:
    with loader(store) as made:
        first = made.peek()
        assert made.peek() is first
        assert next(iter(made)) is first
    assert made.wait_seconds > 0


def test_leaving_early_stops_the_thread(store: SpecStore) -> None:
    before = threading.active_count()
    with loader(store, range(10**9)) as made:
        next(iter(made))
    assert threading.active_count() == before


def test_what_goes_wrong_in_the_thread_is_raised(store: SpecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loader(store)
    monkeypatch.setattr(made, "batch", lambda step: 1 / 0)
    with made, pytest.raises(ZeroDivisionError):
        next(iter(made))


def test_it_is_a_context(store: SpecStore) -> None:
    with pytest.raises(ConfigError, match="with loader"):
        loader(store).peek()


def test_impossible_batches_are_refused(store: SpecStore) -> None:
    with pytest.raises(ConfigError, match="does not split over 3"):
        loader(store, share=(0, 3))
    with pytest.raises(ConfigError, match="model.frames"):
        PretrainLoader(store, CropSampler(store.frames, 50, 0), GRID, STATISTICS, BatchPlan(range(1), RankSlice(8)))


@DEVICES
@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("short", ["pad", "join"])
def test_windows_cut_on_the_device_are_those_of_the_shards(
    store: SpecStore, short: str, dtype: Dtype, device: str
) -> None:
    if dtype == "uint8":
        limits = (-20.0, 5.0)
        shards = [quantise(np.asarray(shard, np.float32), dtype, limits)[0] for shard in store.shards]
        store = SpecStore(replace(store.header, dtype=dtype, value_range=limits), store.index, shards)
    kept = DeviceStore(store, torch.device(device))
    sampler = CropSampler(store.frames, 32, seed=3, short=short, align=8)
    plan = BatchPlan(range(12), RankSlice(8), torch.device(device))
    here, there = (batches(PretrainLoader(each, sampler, GRID, STATISTICS, plan)) for each in (store, kept))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.spec, other.spec) and torch.equal(one.frames, other.frames)
    assert np.array_equal(kept.clip(3), store.clip(3)) and kept.fingerprint == store.fingerprint


def test_shards_that_are_mapped_are_copied_to_the_device(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", 3)
    pack(open_corpus(tmp_path / "sounds"), PackConfig(LogMelConfig(), "uint8"), tmp_path / "packed")
    mapped = open_store(tmp_path / "packed")
    assert isinstance(mapped, SpecStore)
    kept = DeviceStore(mapped, torch.device("cpu"))
    for clip in range(3):
        assert np.array_equal(kept.clip(clip), mapped.clip(clip))
    assert kept.nbytes == (int(mapped.frames.sum()) + 1) * 80


def test_a_corpus_is_kept_on_the_device_where_it_fits(store: SpecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    size, gpu = sum(np.asarray(shard).nbytes for shard in store.shards), torch.device("cuda")
    copy = SpecStore(store.header, store.index, store.shards)
    monkeypatch.setattr(device_store, "DeviceStore", lambda store, device: copy)
    for free, wanted, expected in ((4 * size, None, copy), (4 * size - 1, None, store), (2 * size, True, copy)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert keep_on_device(store, gpu, wanted) is expected
    assert keep_on_device(store, gpu, False) is store and keep_on_device(store, torch.device("cpu"), None) is store
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size - 1, 10 * size))
    with pytest.raises(ConfigError, match="0.00 GB are free; at most 80% of them may be used; set data.on_device=null"):
        keep_on_device(store, gpu, True)
    with pytest.raises(ConfigError, match="the device is cpu, .* set data.on_device=null"):
        keep_on_device(store, torch.device("cpu"), True)
    waves = WaveStore(replace(store.header, dtype="int16"), store.index, store.shards)
    with pytest.raises(ConfigError, match="the corpus holds waves; set"):
        keep_on_device(waves, gpu, True)
    assert keep_on_device(waves, gpu, None) is waves


@pytest.mark.gpu
@pytest.mark.parametrize("short", ["pad", "join"])
def test_batches_of_the_thread_are_those_of_the_caller_on_a_gpu(store: SpecStore, short: str) -> None:
    sampler = CropSampler(store.frames, 32, seed=3, short=short, align=8)
    plan = BatchPlan(range(40), RankSlice(8), torch.device("cuda:0"))
    expected = PretrainLoader(store, sampler, GRID, STATISTICS, plan)
    with PretrainLoader(store, sampler, GRID, STATISTICS, plan) as here:
        for step, batch in enumerate(here):
            wanted = expected.batch(step)
            for name in ("spec", "valid", "clips", "frames", "start_seconds", "noise"):
                value = getattr(batch, name)
                assert value.device.type == "cuda" and torch.equal(value, getattr(wanted, name)), (step, name)
            del batch, value  # its memory is free for the next ones, while work on it may be queued
            torch.randn(512, 512, device="cuda").matmul(torch.randn(512, 512, device="cuda"))
