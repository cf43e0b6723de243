"""Training, validation and test clips of fine-tuning: disjoint, groups together, no test clip in validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.data.partitions import make_folds, small_validation_warnings
from unheard.data.splits import hold_out
from unheard.errors import DataError


def table(classes: list[int], **columns: list[str]) -> Labels:
    count, names = len(classes), max(classes) + 1
    target = np.zeros((count, names), np.int64)
    target[np.arange(count), classes] = 1
    empty = [""] * count
    given_ = {name: columns.get(name, empty) for name in ("split", "fold", "group")}
    none: list[float | None] = [None] * count
    return Labels(
        [Path(f"{i}.wav") for i in range(count)],
        [str(i) for i in range(names)],
        ClassSets.from_dense(target),
        False,
        **given_,
        start=none,
        end=none,
    )


def test_a_split_is_taken_as_it_is() -> None:
    (part,) = make_folds(table([0, 1] * 6, split=["train"] * 6 + ["valid"] * 2 + ["test"] * 4), 0, 0.2)
    assert [side.tolist() for side in (part.train, part.valid, part.test)] == [list(range(6)), [6, 7], [8, 9, 10, 11]]


def test_validation_comes_out_of_the_training_clips_only() -> None:
    labels = table([0, 1] * 20, split=["train"] * 30 + ["test"] * 10)
    (part,) = make_folds(labels, 0, 0.2)
    assert part.test.tolist() == list(range(30, 40))
    assert sorted([*part.train, *part.valid]) == list(range(30)) and 4 <= len(part.valid) <= 6


def test_nothing_is_held_out_by_default() -> None:
    (part,) = make_folds(table([0, 1] * 20, split=["train"] * 30 + ["test"] * 10), 0, 0.0)
    assert len(part.train) == 30 and len(part.valid) == 0


def test_each_fold_is_tested_once() -> None:
    labels = table([0, 1] * 20, fold=[str(i // 2 % 5) for i in range(40)])
    parts = make_folds(labels, 0, 0.15)
    assert [part.name for part in parts] == [f"fold-{i}" for i in range(5)]
    assert sorted(np.concatenate([part.test for part in parts])) == list(range(40))
    for part in parts:
        assert not {*part.train, *part.valid} & {*part.test} and len(part.valid)


def test_folds_that_would_share_a_folder_are_refused() -> None:
    with pytest.raises(DataError, match="'f 1' and 'f_1'"):
        make_folds(table([0, 1] * 6, fold=["f 1", "f 1", "f_1", "f_1", "g", "g"] * 2), 0, 0.1)


def test_parts_are_called_as_their_folds() -> None:
    folds = ["fold01", "Fold 2", "3"] * 6
    assert [part.name for part in make_folds(table([0, 1, 1, 0, 0, 1] * 3, fold=folds), 0, 0.0)] == [
        "fold-3",
        "Fold_2",
        "fold01",
    ]
    with pytest.raises(DataError, match="'1' and 'fold-1'"):
        make_folds(table([0, 1] * 6, fold=["1", "1", "fold-1", "fold-1", "g", "g"] * 2), 0, 0.1)


def test_where_every_group_is_large_the_smallest_chooses() -> None:
    labels = table([0, 1] * 23, group=["x"] * 20 + ["y"] * 10 + ["z"] * 16, split=["train"] * 46)
    (part,) = make_folds(labels, 0, 0.15)
    assert part.valid.tolist() == list(range(20, 30)) and len(part.train) == 36
    assert not small_validation_warnings(labels, [part], 0.15)


def test_where_small_groups_are_next_to_nothing_one_more_chooses() -> None:
    labels = table([0, 1, 0] * 21, group=["x"] * 39 + ["y"] * 21 + ["z"] * 3, split=["train"] * 63)
    (part,) = make_folds(labels, 0, 0.15)
    assert {labels.group[i] for i in part.valid} == {"y", "z"}


def test_groups_are_added_from_the_smallest_until_half_of_the_share_chooses() -> None:
    classes, group = [0, 1] * 26 + [2] * 8, ["x"] * 26 + ["y"] * 26 + ["s"] * 3 + ["t"] * 3 + ["x"] * 2
    held = hold_out(group, table(classes).target, 0.15, seed=0)
    assert {group[i] for i in np.flatnonzero(held)} == {"s", "t"}


def test_where_no_group_can_be_spared_that_is_reported() -> None:
    labels = table(
        [0, 1, 2] * 5, group=["x", "y", "z"] * 5, split=["train"] * 15
    )  # every group is all there is of a class
    parts = make_folds(labels, 0, 0.15)
    assert len(parts[0].valid) == 0
    assert small_validation_warnings(labels, parts, 0.15) == [
        "no group is small enough for validation: the last weights are kept; add a split valid"
    ]
    assert not small_validation_warnings(labels, parts, 0.0)
    given_ = table([0, 1] * 10, split=["train"] * 19 + ["valid"])
    assert not small_validation_warnings(given_, make_folds(given_, 0, 0.15), 0.15)
    many = table([0, 1, 2, 2] * 10, group=["x", "y", "z", "z"] * 9 + ["x", "y", "v", "w"], split=["train"] * 40)
    (few,) = small_validation_warnings(many, make_folds(many, 0, 0.4), 0.4)
    assert few == "only 2 of 40 clips could be spared for validation; add a split valid"


def test_without_columns_a_fifth_is_tested() -> None:
    (part,) = make_folds(table([0, 1, 2] * 20), 3, 0.15)
    assert len(part.test) == 12 and part.name == ""
    assert sorted([*part.train, *part.valid, *part.test]) == list(range(60))


def test_a_table_without_test_clips_is_allowed() -> None:
    (part,) = make_folds(table([0, 1] * 10, split=["train"] * 20), 0, 0.2)
    assert len(part.test) == 0 and len(part.valid) == 4
    with pytest.raises(DataError, match="no clip of the table is a training clip"):
        make_folds(table([0, 1] * 2, split=["valid"] * 4), 0, 0.2)


def test_a_table_without_columns_trains_every_class() -> None:
    labels = table([0, 1] * 10 + [2])
    for seed in range(20):
        (part,) = make_folds(labels, seed, 0.15)
        assert 20 in part.train and len(part.test) == 4
    with pytest.raises(DataError, match="all 4 clips belong to the group 'g'"):
        make_folds(table([0, 1] * 2, group=["g"] * 4), 0, 0.15)
    with pytest.raises(DataError, match="0 test clips"):
        make_folds(table([0, 0, 1, 1], group=["g", "g", "h", "h"]), 0, 0.15)
