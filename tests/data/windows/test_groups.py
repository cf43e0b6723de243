"""Slots of groups of clips are those of lists of the clips of each group, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.data.windows import groups as module
from unheard.data.windows.crops import CropSampler
from unheard.data.windows.groups import GroupSlots

CLIPS, BYTES, PEAK = 2_000_000, 2.25, 64 * 2**20
"""Clips, bytes a clip that a sampler may keep, and further bytes that it may need for a moment."""


def assert_slots_of_lists(lengths: np.ndarray, width: int | None, groups: np.ndarray) -> None:
    """Compare up to about 100 slots of every group, the first and last included, with a list of the group's clips."""
    found = GroupSlots(lengths, width, groups)
    assert len(found.sizes) == groups.max() + 1
    for group, size in enumerate(found.sizes.tolist()):
        clips = np.flatnonzero(groups == group)
        expected = np.repeat(clips, 1 if width is None else -(-lengths[clips] // width))
        assert size == len(expected)
        slots = np.unique(np.append(np.arange(0, size, 1 + size // 100), size - 1)) if size else np.empty(0, np.int64)
        assert np.array_equal(found.clips(group, slots), expected[slots])


@given(
    clips=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 5)), min_size=1, max_size=300),
    width=st.one_of(st.none(), st.integers(1, 150)),
)
def test_slots_are_those_of_lists(clips: list[tuple[int, int]], width: int | None) -> None:
    assert_slots_of_lists(*(np.array(clips)[:, 0], width, np.array(clips)[:, 1]))


@pytest.mark.parametrize(("count", "width"), [(1, None), (3, 100), (40, 100), (300, 7)])
def test_slots_of_any_number_of_groups_are_counted_in_chunks(
    count: int, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    rng = np.random.default_rng(count)
    lengths, groups = rng.integers(1, 500, 5003), rng.integers(0, count, 5003).astype(np.int32)
    assert_slots_of_lists(lengths, width, groups)
    assert_slots_of_lists(lengths, width, np.sort(groups))


@pytest.mark.parametrize(("count", "short"), [(3, "pad"), (200, "pad"), (3, "join")])
def test_balanced_domains_need_little_memory(count: int, short: str) -> None:
    rng = np.random.default_rng(0)
    frames, domains = rng.integers(100, 1001, CLIPS), rng.integers(0, count, CLIPS).astype(np.int32)
    tracemalloc.start()
    try:
        sampler = CropSampler(frames, 208, 0, "length", domains, short, align=16)
        kept, peak = tracemalloc.get_traced_memory()
        sampler.pieces(*sampler.positions(1000, 512))
        while_drawn = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept < (BYTES + (short == "join") * BYTES) * CLIPS
    assert max(peak, while_drawn) < kept + PEAK
