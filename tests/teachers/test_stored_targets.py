"""Stored targets: slices, long clips, statistics, projection, bad input."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.teachers.local_teacher import HOP, RATE, SECONDS, LocalTeacher, use, write_sounds

from unheard.audio.frontend import MSM_MAE_16K, Statistics
from unheard.data.corpus import open_corpus
from unheard.data.loader import PretrainLoader
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.store import Store, WaveStore
from unheard.data.windows.crops import CropSampler
from unheard.embedding.verify import verify
from unheard.errors import ConfigError, DataError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.objectives.distill import DistillConfig, DistillTeacher
from unheard.teachers.chunks import chunks_of
from unheard.teachers.stored import StoredTargets, open_targets
from unheard.teachers.storing import TargetsConfig, TargetsJob, store_targets
from unheard.teachers.targets import ComputedTargets, DistillTargets, ReadTargets, StudentPatches

WIDTH = 96


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def packed(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(open_corpus(sounds), PackConfig(MSM_MAE_16K, "int16"), folder)
    return folder


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> LocalTeacher:
    made = LocalTeacher()
    use(monkeypatch, made, LocalTeacher(seed=1), LocalTeacher(dim=12))
    return made


def waves(packed: Path) -> WaveStore:
    store = open_store(packed)
    assert isinstance(store, WaveStore)
    return store


def loader(store: Store, grid: Grid, steps: int = 4) -> PretrainLoader:
    sampler = CropSampler(store.frames, WIDTH, seed=3)
    return PretrainLoader(store, sampler, grid, Statistics((0.0,), (1.0,)), BatchPlan(range(steps), RankSlice(8)))


def batches(store: Store, grid: Grid, steps: int = 4) -> list[Batch]:
    with loader(store, grid, steps) as made:
        return list(made)


@pytest.mark.parametrize("order", ["freq", "time"])
def test_a_slice_is_what_the_teacher_computes_from_the_window(
    order: str, packed: Path, tmp_path: Path, teacher: LocalTeacher
) -> None:
    store, grid = waves(packed), Grid.of(80, WIDTH, (16, 16), order)
    stored, student = store_targets(packed, TargetsConfig("0"), tmp_path / "t"), StudentPatches.of(grid, MSM_MAE_16K)
    computed, read = ComputedTargets(teacher, student, RATE), ReadTargets(stored, student, standardise=False)
    compared = 0
    for batch in batches(store, grid):
        middle = grid.columns() * 16 + 8 < batch.frames[:, None] - 1  # beyond the last column both are extended
        fresh, found = computed(batch), read(batch)
        assert fresh.shape == found.shape == (8, grid.num_patches, 5)
        torch.testing.assert_close(found[middle], fresh[middle], atol=2e-3, rtol=2e-3)
        assert bool((found[middle].std(0) > 0).all()) and bool(found.isfinite().all())
        compared += int(middle.sum())
    assert compared > 500 and {float(each) for batch in batches(store, grid) for each in batch.start_seconds} != {0.0}


def test_a_long_clip_has_the_map_of_the_whole_clip(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    store, stored = waves(packed), store_targets(packed, TargetsConfig("0"), tmp_path)
    for clip, name in enumerate(store.names):
        wav = torch.from_numpy(store.samples(clip).astype(np.float32) / 32768)[None]
        whole = teacher(wav)[0].permute(2, 1, 0)  # (n, f, C)
        first, count = int(stored.index.offset[clip]), int(stored.index.columns[clip])
        kept = stored.shards[stored.index.shard[clip]][first : first + count]
        assert count == len(whole) == -(-round(SECONDS[int(name[0])] * RATE) // HOP)
        np.testing.assert_allclose(kept.astype(np.float32), whole.numpy(), atol=2e-3, rtol=2e-3)
        times = stored.index.times[stored.index.first[clip] :][:count]
        np.testing.assert_allclose(times, (np.arange(count) + 0.5) * HOP / RATE)


def test_the_chunks_of_a_clip_overlap_by_a_second_on_both_sides(teacher: LocalTeacher) -> None:
    for seconds in (0.01, 9.99, 10.0, 10.01, 18.0, 18.01, 100.0):
        samples = round(seconds * RATE)
        chunks = chunks_of(samples, RATE)
        parts = [chunk.columns(teacher, RATE)[1] for chunk in chunks]
        assert (
            chunks[0].start == 0
            and chunks[-1].stop == samples
            and len(chunks) == max(1, int(np.ceil((seconds - 2) / 8)) if seconds > 10 else 1)
        )
        for (before, earlier), (after, later) in pairwise(zip(chunks, parts, strict=True)):
            assert after.start - before.start == 8 * RATE and before.stop - before.start == 10 * RATE
            assert later[0] - after.start / RATE >= 1 and before.stop / RATE - earlier[-1] >= 1
        times = np.concatenate(parts)
        np.testing.assert_allclose(np.diff(times), HOP / RATE)
        assert len(times) == -(-samples // HOP)


def test_statistics_are_those_of_every_stored_value(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    stored = store_targets(packed, TargetsConfig("0"), tmp_path)
    values = np.concatenate(stored.shards).astype(np.float64).reshape(-1, 5)
    np.testing.assert_allclose(stored.header.statistics.mean, values.mean(0), rtol=1e-9)
    np.testing.assert_allclose(stored.header.statistics.std, values.std(0, ddof=1), rtol=1e-9)
    store, grid = waves(packed), Grid.of(80, WIDTH, (80, 4))
    student = StudentPatches.of(grid, MSM_MAE_16K)
    plain, standard = (ReadTargets(stored, student, standardise=each) for each in (False, True))
    for batch in batches(store, grid, 1):
        mean, std = (torch.tensor(each) for each in (stored.header.statistics.mean, stored.header.statistics.std))
        torch.testing.assert_close(standard(batch), (plain(batch) - mean) / std, atol=1e-4, rtol=1e-4)


def test_padding_beyond_the_end_of_a_clip_has_no_weight_and_no_other_clip(
    packed: Path, tmp_path: Path, teacher: LocalTeacher
) -> None:
    store, grid = waves(packed), Grid.of(80, WIDTH, (80, 16))
    read = ReadTargets(
        store_targets(packed, TargetsConfig("0"), tmp_path), StudentPatches.of(grid, MSM_MAE_16K), standardise=False
    )
    short = [batch for batch in batches(store, grid) if (batch.frames < 40).any()]
    assert short
    for batch in short:
        row = int(batch.frames.argmin())
        assert not batch.valid[row, 3:].any()
        assert torch.equal(read(batch)[row, 3:], read(batch)[row, 2:3].expand(3, -1))


def test_the_projection_keeps_the_channels_that_vary(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    whole = store_targets(packed, TargetsConfig("2"), tmp_path / "whole")
    stored = store_targets(packed, TargetsConfig("2", pca=3), tmp_path / "pca")
    header = stored.header
    assert (whole.header.dim, header.dim, header.pca) == (12, 3, 3)
    assert header.explained is not None and header.explained > 0.999  # three moments are mixed into twelve channels
    with np.load(tmp_path / "pca" / "projection.npz") as arrays:
        matrix, mean = arrays["matrix"], arrays["mean"]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    for ours, theirs in zip(stored.shards, whole.shards, strict=True):
        back = ours.astype(np.float32) @ matrix + mean
        np.testing.assert_allclose(back, theirs.astype(np.float32), atol=2e-2, rtol=2e-3)
    with pytest.raises(ConfigError, match="12 channels"):
        store_targets(packed, TargetsConfig("2", pca=12), tmp_path / "wide")
    with pytest.raises(DataError, match="another --pca"):
        store_targets(packed, TargetsConfig("2"), tmp_path / "pca")


def test_shards_of_an_earlier_version_are_refused(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    job = TargetsJob(tmp_path, waves(packed), teacher, TargetsConfig("0"))
    records = [dict(record) for record, _ in job.write(job.plan())]
    records[-1].pop("times")
    with pytest.raises(DataError, match="begun by an earlier version of unheard; delete it and start again"):
        job.finish(records)


@pytest.mark.usefixtures("teacher")
def test_targets_fit_every_corpus_of_the_same_sounds(sounds: Path, packed: Path, tmp_path: Path) -> None:
    from_folder = store_targets(sounds, TargetsConfig("0"), tmp_path / "folder")
    from_packed = store_targets(packed, TargetsConfig("0"), tmp_path / "packed")
    assert all(np.array_equal(*pair) for pair in zip(from_folder.shards, from_packed.shards, strict=True))
    spectrograms, grid = pack(open_corpus(sounds), MSM_MAE_16K), Grid.of(80, WIDTH, (16, 16))
    from_packed.check_corpus(spectrograms)
    read = ReadTargets(from_packed, StudentPatches.of(grid, MSM_MAE_16K), standardise=True)
    for ours, theirs in zip(batches(spectrograms, grid), batches(waves(packed), grid), strict=True):
        assert ours.wav is None and torch.equal(read(ours), read(theirs))


def test_another_corpus_is_refused_and_a_changed_one(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    stored = store_targets(packed, TargetsConfig("0"), tmp_path / "t")
    for seconds, seed in (((3.0, 2.0), 0), (SECONDS, 5)):  # other clips; the same names and lengths, other samples
        other = write_sounds(tmp_path / f"sounds-{seed}", seconds, seed)
        with pytest.raises(DataError, match="targets of another corpus, or the corpus has changed"):
            stored.check_corpus(pack(open_corpus(other), MSM_MAE_16K))
        with pytest.raises(DataError, match="another corpus or teacher"):
            store_targets(other, TargetsConfig("0"), tmp_path / "t")
    with pytest.raises(DataError, match="another corpus or teacher"):
        store_targets(packed, TargetsConfig("1"), tmp_path / "t")


def test_spectrograms_are_refused_and_a_folder_with_other_files(
    sounds: Path, packed: Path, tmp_path: Path, teacher: LocalTeacher
) -> None:
    pack(open_corpus(sounds), MSM_MAE_16K, tmp_path / "spec")
    with pytest.raises(DataError, match="--store wav"):
        store_targets(tmp_path / "spec", TargetsConfig("0"), tmp_path / "t")
    with pytest.raises(DataError, match="holds other files"):
        store_targets(packed, TargetsConfig("0"), sounds)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("missing", "is missing"), ("cut", "bytes instead of"), ("index", "index.npz"), ("torn", "damaged")],
)
@pytest.mark.usefixtures("teacher")
def test_damage_is_refused_by_name(damage: str, words: str, packed: Path, tmp_path: Path) -> None:
    store_targets(packed, TargetsConfig("0"), tmp_path)
    shard = tmp_path / "shard-00000.bin"
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-2])
    elif damage == "index":
        (tmp_path / "index.npz").write_bytes(b"")
    else:
        (tmp_path / "targets.json").write_text("{")
    with pytest.raises(DataError, match=words):
        open_targets(tmp_path)


def test_a_changed_byte_is_found_by_verify(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    stored = store_targets(packed, TargetsConfig("2", pca=2), tmp_path)
    stored.verify()
    assert verify([tmp_path]) == []
    for name in ("shard-00000.bin", "projection.npz"):
        content = bytearray((tmp_path / name).read_bytes())
        content[100] ^= 1
        (tmp_path / name).write_bytes(content)
    assert len(verify([tmp_path])) == 2
    with pytest.raises(DataError, match=r"projection\.npz.*differ from their checksums"):
        stored.verify()


def test_settings_that_need_other_targets_are_refused(packed: Path, tmp_path: Path, teacher: LocalTeacher) -> None:
    stored: StoredTargets = store_targets(packed, TargetsConfig("2", pca=2), tmp_path / "t")
    name = str(tmp_path / "t")

    def opened(waves: bool = True, **settings: object) -> DistillTargets:
        return DistillTargets(DistillConfig(1.0, (DistillTeacher(**settings),)), waves)  # type: ignore[arg-type]

    found = opened(name=name).config.teachers[0]
    assert (found.dim, found.pca, found.standardise) == (2, 2, "stored")
    assert opened(name=name).fingerprint == stored.fingerprint
    assert opened(name="0").config.teachers[0].standardise == "running"
    assert opened(name=name, standardise="token").config.teachers[0].standardise == "token"
    for settings, words in (
        ({"name": name, "pca": 3}, r"teachers\.0\.pca is 3, and the targets .* stored with 2"),
        ({"name": name, "stage": "middle"}, r"teachers\.0\.stage is middle"),
        ({"name": "0", "pca": 3}, r"teachers\.0\.pca needs stored targets"),
        ({"name": "0", "standardise": "stored"}, "needs stored targets"),
        ({"name": "0", "waves": False}, r"data\.input=wav"),
    ):
        with pytest.raises(ConfigError, match=words):
            opened(**settings)  # type: ignore[arg-type]
