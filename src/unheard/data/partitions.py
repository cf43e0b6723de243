"""Training, validation and test clips of a label table: from its split, from its folds, or assigned by
`unheard.data.splits`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.splits import assign_folds, hold_out, too_few
from unheard.errors import DataError

UNFIT = r"[^\w.-]"  # characters that are not allowed in the name of a folder
TEST_FRACTION = 0.2  # for a table without split and fold; our choice


Sides = tuple[Index, Index, Index]
"""Training, validation and test clips."""


def partitions(labels: Labels, seed: int, folds: int = 5) -> list[Sides]:
    """Return training, validation and test clips: of the split column, else of each fold in turn, else of assigned
    folds.

    Assigned folds are ``folds`` in number and depend on ``seed``. They keep groups together and the classes in
    proportion. Validation is empty unless a split defines it.

    Raises
    ------
    DataError
        When a split or fold column has gaps, a side is empty, or a class of the test clips is not in the training
        clips.
    """
    everyone = np.arange(len(labels))
    if any(labels.split):
        side = np.array(labels.split)
        return [_checked(labels, (everyone[side == "train"], everyone[side == "valid"], everyone[side == "test"]))]
    given = any(labels.fold)
    if given and (gaps := labels.fold.count("")):
        raise DataError(f"{gaps} of {len(labels)} clips have no fold; fill the column fold, or remove it")
    fold = np.array(labels.fold) if given else assign_folds(_groups(labels), labels.target, folds, seed)
    tests = [(fold != name, fold == name) for name in np.unique(fold)]
    return [
        _checked(labels, (everyone[train], everyone[:0], everyone[test]), None if given else seed)
        for train, test in tests
    ]


def _groups(labels: Labels) -> NDArray[Any]:
    """Return the group of each clip, for a table that can be split."""
    groups = labels.group_ids()
    if len(set(labels.group)) == 1 and labels.group[0]:
        raise DataError(
            f"all {len(labels)} clips belong to the group {labels.group[0]!r}; there must be two groups, or no column"
            " group"
        )
    return groups


def _checked(labels: Labels, sides: Sides, seed: int | None = None) -> Sides:
    """Check the sides and return them; ``seed`` is that of assigned folds."""
    train, _, test = sides
    if not len(train) or not len(test):
        raise DataError(
            f"{len(train)} training clips and {len(test)} test clips; the columns split or fold must give some of each"
        )
    unseen = (labels.target.counts(test) > 0) & (labels.target.counts(train) == 0)
    if unseen.any() and seed is not None:
        raise DataError(_singleton_class_error(labels, int(np.flatnonzero(unseen)[0]), seed))
    if unseen.any():
        names = ", ".join(np.array(labels.classes)[unseen])
        raise DataError(
            f"classes of the test clips that are missing from the training clips: {names}; move some clips,"
            " or remove these"
        )
    return sides


def _singleton_class_error(labels: Labels, kind: int, seed: int) -> str:
    """Return the error message for a class that is only in the test side of assigned folds."""
    clips = labels.target.clips_of(kind)
    groups = len(set(labels.group_ids(clips)))
    unit = "group" if any(labels.group) else "clip"
    message = (
        f"class {labels.classes[kind]!r} has"
        f" {_count(len(clips), 'clip')}{f' in {_count(groups, unit)}' if unit == 'group' else ''}"
    )
    if groups < 2:
        return f"{message}; it needs two {unit}s, one for training and one for testing; add one, or remove the class"
    return (
        f"{message}, all on one side of a fold assigned with seed {seed}; separate them with a column split or fold,"
        " or remove the class"
    )


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


@dataclass(frozen=True)
class FoldIndices:
    """Rows of a table for one model; ``name`` is empty for a table with one part."""

    name: str
    train: Index
    valid: Index
    test: Index


def make_folds(labels: Labels, seed: int, share: float) -> list[FoldIndices]:
    """Return the parts of a table: its split, one for each fold, or one with `TEST_FRACTION` of the clips held out.

    The held-out test clips depend on ``seed``. Validation clips are those of the split valid, or ``share`` of the
    training clips, 0 for none. Clips of a group stay on one side. No validation clip is taken from the test clips. A
    table whose split has no test clips is allowed.

    Raises
    ------
    DataError
        As `partitions`. When a training side has fewer than two classes, or lacks one of the validation or test side.
        When two folds differ only in characters that are not allowed in folder names.
    """
    if any(labels.split) and "test" not in labels.split:
        rows, side = np.arange(len(labels)), np.array(labels.split)
        if "train" not in labels.split:
            raise DataError("no clip of the table is a training clip; the column split must be train in some rows")
        sides = [(rows[side == "train"], rows[side == "valid"], rows[:0])]
    elif any(labels.split) or any(labels.fold):
        sides = partitions(labels, seed)
    else:
        held = hold_out(_groups(labels), labels.target, TEST_FRACTION, seed)
        sides = [_checked(labels, (np.flatnonzero(~held), np.arange(0), np.flatnonzero(held)))]
    folds = sorted(set(labels.fold)) if any(labels.fold) and not any(labels.split) else [""]
    names = [_name(fold) for fold in folds]
    if twin := next((k for k, name in enumerate(names) if name in names[:k]), None):
        raise DataError(
            f"the folds {folds[names.index(names[twin])]!r} and {folds[twin]!r} would share a folder; rename one of"
            " them"
        )
    found = []
    for name, (train, valid, test) in zip(names, sides, strict=True):
        if not len(valid) and share > 0:
            held = hold_out(labels.group_ids(train), labels.target.take(train), share, seed)
            train, valid = train[~held], train[held]
        found.append(_trainable(labels, FoldIndices(name, train, valid, test)))
    return found


def _name(fold: str) -> str:
    """Return the name of a fold's part: the fold if that is descriptive, else with the prefix ``fold-``."""
    folder = re.sub(UNFIT, "_", fold)
    return folder if not fold or folder.lower().startswith("fold") else f"fold-{folder}"


def _trainable(labels: Labels, part: FoldIndices) -> FoldIndices:
    there = {
        side: set(np.flatnonzero(labels.target.counts(rows)).tolist())
        for side, rows in vars(part).items()
        if side != "name"
    }
    where = f" of {part.name}" if part.name else ""
    if len(there["train"]) < 2:
        names = ", ".join(labels.classes[k] for k in there["train"]) or "none"
        raise DataError(
            f"the training clips{where} are all of one class ({names}); a classifier needs at least two classes"
        )
    for side in ("valid", "test"):
        if unseen := sorted(there[side] - there["train"]):
            names = ", ".join(labels.classes[k] for k in unseen)
            raise DataError(
                f"the split {side}{where} has classes without training clips: {names}; move some clips to train,"
                " or remove these"
            )
    return part


def small_validation_warnings(labels: Labels, parts: Sequence[FoldIndices], share: float) -> list[str]:
    """Return warnings for parts with no or very few validation clips for model selection."""
    if not share or "valid" in labels.split:
        return []
    unit, found = "group" if any(labels.group) else "clip", []
    for part in parts:
        where, clips = f"{part.name}: " if part.name else "", len(part.valid)
        if not clips:
            lacking = "no group is small enough" if unit == "group" else "no clip can be spared"
            found.append(f"{where}{lacking} for validation: the last weights are kept; add a split valid")
        elif too_few(clips, clips + len(part.train), share):
            found.append(
                f"{where}only {clips} of {clips + len(part.train)} clips could be spared for validation; add"
                " a split valid"
            )
    return found
