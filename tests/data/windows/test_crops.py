"""Crops lie inside their clips, depend on seed, epoch and position alone, and cover every clip."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.data.windows.crops import CropSampler
from unheard.errors import ConfigError, DataError

frames_of_clips = st.lists(st.integers(1, 400), min_size=1, max_size=30)
widths = st.integers(1, 200)
seeds = st.integers(0, 2**31)


@given(frames=frames_of_clips, width=widths, seed=seeds, epoch=st.integers(0, 10**6))
def test_crops_lie_inside_their_clips(frames: list[int], width: int, seed: int, epoch: int) -> None:
    sampler = CropSampler(frames, width, seed)
    ids, starts = sampler.draw(epoch, np.arange(sampler.size))
    assert (starts >= 0).all()
    assert (starts <= np.maximum(np.array(frames)[ids] - width, 0)).all()


@given(frames=frames_of_clips, width=widths, seed=seeds)
def test_an_epoch_is_one_pass_over_the_audio(frames: list[int], width: int, seed: int) -> None:
    sampler = CropSampler(frames, width, seed)
    ids, _ = sampler.draw(3, np.arange(sampler.size))
    assert Counter(ids.tolist()) == {clip: -(-length // width) for clip, length in enumerate(frames)}


@given(frames=frames_of_clips, width=widths, seed=seeds)
def test_one_crop_a_clip(frames: list[int], width: int, seed: int) -> None:
    sampler = CropSampler(frames, width, seed, crops="one")
    ids, _ = sampler.draw(0, np.arange(sampler.size))
    assert sorted(ids.tolist()) == list(range(len(frames)))


@given(frames=frames_of_clips, width=widths, seed=seeds, short=st.sampled_from(["pad", "join"]))
def test_a_crop_depends_on_its_position_alone(frames: list[int], width: int, seed: int, short: str) -> None:
    sampler, again = (CropSampler(frames, width, seed, short=short, align=4) for _ in range(2))
    epochs, positions = sampler.positions(step=5, batch_size=8)
    together = again.draw(epochs, positions)
    noise = again.noise(epochs, positions, 7)
    for processes in (1, 2, 4):
        share = 8 // processes
        for rank in range(processes):
            mine = slice(rank * share, (rank + 1) * share)
            sampled = sampler.draw(epochs[mine], positions[mine])
            assert all(np.array_equal(a, b[mine]) for a, b in zip(sampled, together, strict=True))
            assert np.array_equal(sampler.noise(epochs[mine], positions[mine], 7), noise[mine])


def test_every_start_is_drawn_the_last_one_too() -> None:
    sampler = CropSampler([12], 8, seed=0, crops="one")
    starts = np.concatenate([sampler.draw(epoch, np.array([0]))[1] for epoch in range(2000)])
    counts = np.bincount(starts)
    assert len(counts) == 5
    assert np.abs(counts - 400).max() < 80  # four standard deviations


def test_seeds_and_epochs_differ() -> None:
    frames = np.full(200, 500)
    orders = [
        CropSampler(frames, 100, seed).draw(epoch, np.arange(50))[0].tolist() for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_crops_do_not_change_between_versions() -> None:
    ids, starts = CropSampler([300, 50, 1000, 208], 208, seed=7).draw(2, np.arange(9))
    assert ids.tolist() == [2, 2, 0, 3, 2, 2, 1, 0, 2]
    assert starts.tolist() == [184, 303, 4, 0, 573, 57, 0, 7, 451]


@pytest.mark.parametrize("crops", ["length", "one"])
def test_crops_of_domains_and_joined_clips_do_not_change_between_versions(crops: Literal["length", "one"]) -> None:
    """Numbers of the version before `GroupSlots`, so that a run can be continued."""
    domains = np.array([2, 0, 1, 0, 2, 2, 1])
    sampler = CropSampler([300, 50, 1000, 208, 20, 30, 700], 208, 7, crops, domains, "join", align=16)
    pieces = sampler.pieces(2, np.arange(9))
    assert sampler.size == {"length": 15, "one": 7}[crops]
    assert pieces.ids.tolist()[:9] == [1, 2, 0, 1, 2, 4, 1, 2, 4]
    assert pieces.ids.tolist()[9:] == [5, 1, 1, 4, 4, 5, 4, 4, 4, 1, 4, 5, 5, 1, 5, 4, 1, 5, 1, 4, 1, 5, 1]
    assert pieces.starts.tolist() == [0, 303, 4, 0, 573, 0, 0, 60, *[0] * 24]


def test_batches_run_through_epochs_without_gaps() -> None:
    sampler = CropSampler([10, 10, 10], 10, seed=0)
    steps = [sampler.positions(step, 8) for step in range(3)]
    epochs, positions = (np.concatenate(column) for column in zip(*steps, strict=True))
    assert epochs.tolist() == [i // 3 for i in range(24)]
    assert positions.tolist() == [i % 3 for i in range(24)]


def test_domains_get_equal_shares() -> None:
    domains = np.repeat([2, 1, 0], [90, 9, 1])
    sampler = CropSampler(np.full(100, 300), 100, seed=0, domains=domains)
    ids, _ = sampler.draw(0, np.arange(sampler.size))
    assert sampler.size == 300
    assert Counter(domains[ids].tolist()) == {0: 100, 1: 100, 2: 100}
    assert len(set(ids.tolist())) > 60


@given(frames=frames_of_clips, width=st.integers(20, 200), seed=seeds, align=st.sampled_from([1, 4, 16]))
def test_joined_windows_are_filled_up(frames: list[int], width: int, seed: int, align: int) -> None:
    sampler = CropSampler(frames, width, seed, short="join", align=align)
    positions = np.arange(min(sampler.size, 20))
    pieces = sampler.pieces(0, positions)
    batch = len(positions)
    assert np.array_equal(pieces.windows[:batch], np.arange(batch))
    assert np.array_equal(pieces.ids[:batch], sampler.draw(0, positions)[0])
    assert (pieces.offsets % align == 0).all()
    assert (pieces.starts + pieces.lengths <= np.array(frames)[pieces.ids]).all()
    assert (pieces.real_frames(batch) > width - align).all()
    covered = np.zeros((batch, width), int)
    for window, offset, length in zip(pieces.windows, pieces.offsets, pieces.lengths, strict=True):
        covered[window, offset : offset + length] += 1
    assert covered.max() == 1
    assert np.array_equal(covered == 1, pieces.mask(batch, width))


def test_padded_windows_are_one_piece() -> None:
    pieces = CropSampler([5, 20], 10, seed=0, crops="one").pieces(0, np.arange(2))
    assert sorted(pieces.lengths.tolist()) == [5, 10]
    assert pieces.mask(2, 10).sum() == 15


def test_noise_is_uniform_and_never_repeats() -> None:
    noise = CropSampler([1000], 100, seed=0).noise(np.zeros(100, np.int64), np.arange(100), 100)
    assert noise.dtype == np.float32
    assert 0 <= noise.min() < noise.max() < 1
    assert np.abs(np.histogram(noise, 10, (0, 1))[0] - 1000).max() < 150
    assert len(np.unique(noise)) > 9980


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(DataError, match="without frames"):
        CropSampler([], 10, seed=0)
    with pytest.raises(ConfigError, match="width"):
        CropSampler([5], 0, seed=0)
