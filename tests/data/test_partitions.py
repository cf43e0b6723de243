"""Partitions of random tables: no clip and no group on two sides, and each clip tested once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.data.partitions import make_folds, partitions
from unheard.errors import DataError
from unheard.evaluation.probe.protocol import INNER_FOLDS, ProbeProtocol

Rows = list[tuple[set[int], int | None]]
"""Classes and group of each clip."""

ONE_CLASS = st.lists(st.tuples(st.integers(0, 3).map(lambda k: {k}), st.integers(0, 8)), min_size=2, max_size=50)
SOME_CLASSES = st.lists(
    st.tuples(st.sets(st.integers(0, 3), max_size=3), st.none() | st.integers(0, 8)), min_size=2, max_size=50
)
NO_GROUPS = st.lists(st.tuples(st.integers(0, 3).map(lambda k: {k}), st.none()), min_size=2, max_size=50)
TABLES = ONE_CLASS | SOME_CLASSES | NO_GROUPS
SEEDS = st.integers(0, 10**6)


def table(rows: Rows, split: list[str] | None = None, fold: list[str] | None = None) -> Labels:
    classes = sorted(set().union(*(held for held, _ in rows)))
    place = {name: number for number, name in enumerate(classes)}
    lists = [tuple(sorted(place[name] for name in held)) for held, _ in rows]
    count = len(rows)
    return Labels(
        paths=[Path(f"{number}.wav") for number in range(count)],
        classes=[str(name) for name in classes],
        target=ClassSets.from_lists(lists, len(classes)),
        multilabel=any(len(numbers) != 1 for numbers in lists),
        split=split or [""] * count,
        fold=fold or [""] * count,
        group=["" if group is None else f"group {group}" for _, group in rows],
        start=[None] * count,
        end=[None] * count,
    )


def same(one: list[tuple[np.ndarray, ...]], other: list[tuple[np.ndarray, ...]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def spread(labels: Labels) -> bool:
    """Whether each class has clips in two groups, a clip without a group being its own, so that it can be tested and
    trained.
    """
    blocks = labels.group_ids()
    return all(len(set(blocks[labels.target.clips_of(number)])) > 1 for number in range(len(labels.classes)))


@settings(max_examples=50)
@given(rows=TABLES, seed=SEEDS, folds=st.integers(5, 6))
@example(rows=[({0}, 0), ({0}, 1)], seed=0, folds=5)
def test_made_folds_test_each_clip_once(rows: Rows, seed: int, folds: int) -> None:
    labels = table(rows)
    if not labels.classes:
        return
    if not spread(labels):
        with pytest.raises(DataError, match="remove the class|two groups"):
            partitions(labels, seed, folds)
        return
    found, blocks = partitions(labels, seed, folds), labels.group_ids()
    assert 2 <= len(found) <= folds
    assert sorted(np.concatenate([test for _, _, test in found])) == list(range(len(rows)))
    for train, valid, test in found:
        assert sorted([*train, *test]) == list(range(len(rows))) and not len(valid)
        assert not set(blocks[train]) & set(blocks[test])
        assert (labels.target.counts(train) > 0).all()
    assert same(found, partitions(labels, seed, folds))


def test_a_class_of_two_groups_is_never_left_without_training_clips() -> None:
    """Stratified folds may put both groups of a rare class into one fold, where a table of many sizes of group asks for
    few folds.
    """
    rng = np.random.default_rng(0)
    for seed in range(60):
        rows: Rows = [
            ({min(3, int(rng.geometric(0.5)) - 1)}, int(rng.integers(0, 6))) for _ in range(int(rng.integers(8, 50)))
        ]
        labels = table(rows)
        if spread(labels):
            assert all((labels.target.counts(train) > 0).all() for train, _, _ in partitions(labels, seed))


@settings(max_examples=60)
@given(rows=NO_GROUPS, seed=SEEDS)
def test_made_folds_keep_the_classes_in_proportion(rows: Rows, seed: int) -> None:
    labels = table(rows)
    if labels.target.counts().min() < 2:
        return
    found = partitions(labels, seed)
    for _, _, test in found:
        assert np.abs(labels.target.counts(test) - labels.target.counts() / len(found)).max() < 1


@given(rows=TABLES, seed=SEEDS)
def test_a_given_split_is_used_as_it_is(rows: Rows, seed: int) -> None:
    names = [("train", "valid", "test")[number] for number in np.random.default_rng(seed).integers(0, 3, len(rows))]
    try:
        ((*sides,),) = partitions(table(rows, split=names), seed)
    except DataError:
        return  # no clip to train on, or to test, or a class that is not trained
    for name, clips in zip(("train", "valid", "test"), sides, strict=True):
        assert clips.tolist() == [clip for clip, other in enumerate(names) if other == name]


@given(rows=TABLES, seed=SEEDS)
def test_given_folds_are_used_as_they_are(rows: Rows, seed: int) -> None:
    names = [("a", "b", "c")[number] for number in np.random.default_rng(seed).integers(0, 3, len(rows))]
    labels = table(rows, fold=names)
    try:
        found = partitions(labels, seed)
    except DataError:
        return  # a class that one fold has alone, or a single fold
    assert [{names[clip] for clip in test} for _, _, test in found] == [{name} for name in sorted(set(names))]
    assert same(found, partitions(labels, seed + 1))


@settings(max_examples=60)
@given(rows=TABLES, seed=SEEDS, share=st.floats(0, 0.4), folded=st.booleans())
def test_the_sides_of_fine_tuning_share_nothing(rows: Rows, seed: int, share: float, folded: bool) -> None:
    fold = [
        f"fold{clip % 3 if group is None else group}" for clip, (_, group) in enumerate(rows)
    ]  # a group is in one fold
    labels = table(rows, fold=fold if folded else None)
    try:
        parts = make_folds(labels, seed, share)
    except DataError:
        return
    blocks = labels.group_ids()
    for part in parts:
        sides = (part.train, part.valid, part.test)
        train, valid, test = (set(blocks[side]) for side in sides)
        assert sorted(np.concatenate(sides)) == list(range(len(rows)))
        assert not (train & valid or train & test or valid & test)
        trained = labels.target.counts(part.train) > 0
        assert (
            trained[labels.target.counts(part.test) > 0].all() and trained[labels.target.counts(part.valid) > 0].all()
        )
    if folded:
        assert sorted(np.concatenate([part.test for part in parts])) == list(range(len(rows)))
    again = make_folds(labels, seed, share)
    assert same([(p.train, p.valid, p.test) for p in parts], [(p.train, p.valid, p.test) for p in again])


@settings(max_examples=60)
@given(rows=TABLES, seed=SEEDS)
def test_inner_folds_of_a_probe_stay_inside_the_training_clips(rows: Rows, seed: int) -> None:
    labels = table(rows)
    try:
        exam = ProbeProtocol.of(labels, (seed,), 10)
    except DataError:
        return
    blocks = labels.group_ids()
    for part in exam.runs[0]:
        assert len(part.inner_splits) <= INNER_FOLDS
        held = [clip for _, chosen_by in part.inner_splits for clip in chosen_by.tolist()]
        assert len(held) == len(set(held)) and set(held) <= set(part.train.tolist())
        for fit, chosen_by in part.inner_splits:
            assert sorted([*fit, *chosen_by]) == part.train.tolist() and not set(blocks[fit]) & set(blocks[chosen_by])
    assert exam.test_indices.tolist() == list(range(len(rows)))
    again = ProbeProtocol.of(labels, (seed,), 10).runs[0]
    assert all(
        same(list(one.inner_splits), list(other.inner_splits)) for one, other in zip(exam.runs[0], again, strict=True)
    )
