"""Assignments of clips to folds and sides: no group on two sides, each clip once, classes in proportion, reproducible."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unheard.data.class_sets import ClassSets
from unheard.data.splits import assign_folds, distinct, draw_subset, hold_out, kin, published_folds, published_validation

C = 4
ROWS = st.lists(st.tuples(st.sets(st.integers(0, C - 1), max_size=3), st.integers(0, 9)), min_size=1, max_size=60)
LABELS = st.lists(st.integers(0, C - 1), min_size=1, max_size=80)
SEEDS = st.integers(0, 10**6)
FRACTIONS = st.floats(0.05, 0.5)
Rows = list[tuple[set[int], int]]


def strata_of(classes: list[set[int]]) -> ClassSets:
    return ClassSets.from_lists([tuple(sorted(held)) for held in classes], C)


def divided(rows: Rows) -> tuple[list[str], ClassSets]:
    return [f"group {group}" for _, group in rows], strata_of([held for held, _ in rows])


def parts_of_groups(groups: list[str], assigned: np.ndarray) -> dict[str, int]:
    """Part of each group; fails where a group is in two."""
    found = dict(zip(groups, assigned.tolist(), strict=True))
    assert [found[group] for group in groups] == assigned.tolist()
    return found


@given(ROWS, st.integers(C + 1, 7), SEEDS)
def test_folds_keep_groups_whole_and_train_every_class_of_two_groups(rows: Rows, n_folds: int, seed: int) -> None:
    groups, strata = divided(rows)
    fold = assign_folds(groups, strata, n_folds, seed)
    assert set(parts_of_groups(groups, fold).values()) == set(range(min(n_folds, len(set(groups)))))
    for number in range(C):
        clips = strata.clips_of(number).tolist()
        if len({groups[clip] for clip in clips}) > 1:
            assert len(set(fold[clips].tolist())) > 1


@given(LABELS, st.integers(2, 7), SEEDS)
def test_folds_of_single_clips_are_stratified(labels: list[int], n_folds: int, seed: int) -> None:
    fold = assign_folds([str(clip) for clip in range(len(labels))], strata_of([{label} for label in labels]), n_folds, seed)
    n_folds = min(n_folds, len(labels))
    sizes = np.bincount(fold, minlength=n_folds)
    assert sizes.max() - sizes.min() <= 2
    for label in set(labels):
        counts = np.bincount(fold[np.array(labels) == label], minlength=n_folds)
        assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(2, 6), SEEDS)
def test_sizes_of_folds_differ_by_one_group_at_most(groups: list[int], n_folds: int, seed: int) -> None:
    fold = assign_folds([str(group) for group in groups], strata_of([{0}] * len(groups)), n_folds, seed)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= max(Counter(groups).values())


@given(ROWS, SEEDS, FRACTIONS, st.randoms())
def test_assignments_depend_on_the_seed_but_not_on_the_order_of_rows(rows: Rows, seed: int, fraction: float, random: object) -> None:
    shuffled = rows[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        [parts_of_groups(groups, part) for part in (assign_folds(groups, strata, 5, seed), hold_out(groups, strata, fraction, seed))]
        for groups, strata in map(divided, (rows, shuffled))
    )
    assert one == other
    clips, several = [str(clip) for clip in range(60)], strata_of([{clip % C} for clip in range(60)])
    assert len({assign_folds(clips, several, 5, seed + k).tobytes() for k in range(5)}) == 5


@given(ROWS, SEEDS, FRACTIONS)
def test_held_out_groups_stay_whole_and_every_class_keeps_a_clip(rows: Rows, seed: int, fraction: float) -> None:
    groups, strata = divided(rows)
    held = hold_out(groups, strata, fraction, seed)
    parts_of_groups(groups, held)
    assert ((strata.counts(np.flatnonzero(~held)) > 0) == (strata.counts() > 0)).all()


@given(LABELS, SEEDS, FRACTIONS)
def test_held_out_clips_are_a_fraction_of_each_class(labels: list[int], seed: int, fraction: float) -> None:
    strata = strata_of([{label} for label in labels])
    held = hold_out([str(clip) for clip in range(len(labels))], strata, fraction, seed)
    counts, kept = strata.counts(), strata.counts(np.flatnonzero(~held))
    assert (counts - kept <= np.ceil(fraction * counts)).all()
    assert held.sum() >= fraction * len(labels) / 2 or (kept[counts > 0] == 1).all()


@given(ROWS, SEEDS)
def test_a_larger_subset_contains_every_smaller_one_and_every_class(rows: Rows, seed: int) -> None:
    _, strata = divided(rows)
    subsets = [set(draw_subset(strata, fraction, seed).tolist()) for fraction in (0.05, 0.1, 0.25, 0.5, 1.0)]
    assert all(small <= large for small, large in pairwise(subsets))
    assert subsets[-1] == set(range(len(rows)))
    assert ((strata.counts(draw_subset(strata, 0.05, seed)) > 0) == (strata.counts() > 0)).all()
    assert len(subsets[0]) <= round(0.05 * len(rows)) + C


CLIPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12).map(str)), min_size=1, max_size=60)


@given(CLIPS, st.integers(1, 6), st.randoms())
def test_groups_stay_whole_in_any_order(clips: list[tuple[str, str]], parts: int, random: object) -> None:
    home = dict(zip((group for _, group in clips), published_folds(*zip(*clips, strict=True), parts), strict=True))
    assert set(home.values()) <= set(range(parts))
    shuffled = clips[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = published_folds(*zip(*shuffled, strict=True), parts)
    assert [home[group] for _, group in shuffled] == again


def test_classes_are_spread_evenly() -> None:
    labels = ["rare"] * 5 + ["common"] * 95
    folds = published_folds(labels, [str(number) for number in range(100)], 5)
    counts = Counter(zip(labels, folds, strict=True))
    assert {counts["rare", fold] for fold in range(5)} == {1}
    assert {counts["common", fold] for fold in range(5)} == {19}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(1, 6))
def test_published_folds_of_single_clips_are_stratified(labels: list[str], n_folds: int) -> None:
    folds = published_folds(labels, [f"{clip:03d}" for clip in range(len(labels))], n_folds)
    for name in set(labels):
        counts = np.bincount([fold for fold, label in zip(folds, labels, strict=True) if label == name], minlength=n_folds)
        assert counts.max() - counts.min() <= 1


@given(CLIPS)
def test_validation_takes_whole_groups_where_there_are_enough(clips: list[tuple[str, str]]) -> None:
    labels, groups = zip(*clips, strict=True)
    chosen = published_validation(labels, groups)
    homes = defaultdict(set)
    for label, group in clips:
        homes[label].add(group)
    if min(len(home) for home in homes.values()) >= 5:
        sides = defaultdict(set)
        for group, validates in zip(groups, chosen, strict=True):
            sides[group].add(validates)
        assert all(len(side) == 1 for side in sides.values())


def test_validation_of_one_group_takes_single_clips() -> None:
    chosen = published_validation(["a", "b"] * 10, ["same"] * 20)
    assert sum(chosen) == 4
    assert not any(published_validation([], []))


COPIES = [
    ("a/1", "kick", "train", "", "rock"),
    ("b/1", "kick", "test", "", "pearl"),
    ("b/2", "hat", "test", "", "pearl"),
    ("c/2", "tom", "train", "", "other"),
    ("c/3", "tom", "train", "", "other"),
    ("d/3", "tom", "train", "", "third"),
]
CONTENT = {"a/1": "x", "b/1": "x", "b/2": "y", "c/2": "y", "c/3": "z", "d/3": "z"}


def test_a_sound_counts_once_on_the_side_that_tests_it() -> None:
    assert [row[0] for row in distinct(COPIES, CONTENT)] == ["b/1", "c/3"]  # y has two labels: which one is right is unknown
    assert distinct(COPIES, dict.fromkeys(CONTENT, "")) == COPIES


def test_groups_that_share_a_file_are_one() -> None:
    assert kin(COPIES, CONTENT) == {"rock": "other", "pearl": "other", "other": "other", "third": "other"}
    assert kin(COPIES, CONTENT | {"c/2": "w"}) == {"rock": "pearl", "pearl": "pearl", "other": "other", "third": "other"}
    assert kin(COPIES, dict.fromkeys(CONTENT, "")) == {name: name for name in ("rock", "pearl", "other", "third")}
