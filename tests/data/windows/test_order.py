"""Orders of an epoch are permutations, and slots belong to the clips that they would have in a full list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.data.windows import order
from unheard.data.windows.order import Slots, epoch_order

seeds = st.integers(0, 2**32 - 1)


@given(size=st.integers(1, 3000), seed=seeds, epoch=st.integers(0, 10**9))
def test_every_slot_is_at_one_position(size: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(np.arange(size), size, seed, epoch)) == list(range(size))


def test_a_position_of_a_large_epoch_is_found_without_the_others() -> None:
    positions = np.array([0, 1, 10**12 - 1])
    first = epoch_order(positions, 10**12, 0, 3)
    assert len(set(first.tolist())) == 3 and (first >= 0).all() and (first < 10**12).all()
    assert np.array_equal(epoch_order(positions[2:], 10**12, 0, 3), first[2:])


@pytest.mark.parametrize("size", [2, 5, 20, 33])
def test_slots_are_at_every_position_equally_often(size: int) -> None:
    epochs = 2000
    orders = np.stack([epoch_order(np.arange(size), size, 1, epoch) for epoch in range(epochs)])
    counts = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    chi_square = ((counts - epochs / size) ** 2 / (epochs / size)).sum()
    freedom = (size - 1) ** 2
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_neighbours_of_one_epoch_are_apart_in_the_next() -> None:
    one, two = (epoch_order(np.arange(4096), 4096, 0, epoch) for epoch in (0, 1))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.06 and abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.06


@given(frames=st.lists(st.integers(1, 400), min_size=1, max_size=300), width=st.one_of(st.none(), st.integers(1, 150)))
def test_slots_are_those_of_a_full_list(frames: list[int], width: int | None) -> None:
    lengths = np.array(frames)
    slots = Slots(lengths, width)
    expected = np.repeat(np.arange(len(frames)), 1 if width is None else -(-lengths // width))
    assert slots.size == len(expected) and slots.shortest == lengths.min()
    assert np.array_equal(slots.clips(np.arange(slots.size)), expected)


def test_slots_are_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "CHUNK", 2 * order.BLOCK)
    lengths = np.random.default_rng(0).integers(1, 500, 5 * order.BLOCK + 7)
    slots = Slots(lengths, 100)
    assert np.array_equal(slots.clips(np.arange(slots.size)), np.repeat(np.arange(len(lengths)), -(-lengths // 100)))
    assert slots.shortest == lengths.min()
