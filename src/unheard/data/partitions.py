"""The training, validation and test clips of a table of labels: of its split, of its folds, or assigned by `unheard.data.splits`."""

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

UNFIT = r"[^\w.-]"  # characters that have no place in the name of a folder
TEST_FRACTION = 0.2  # of a table without split and fold; our choice


Sides = tuple[Index, Index, Index]
"""Training, validation and test clips."""


def partitions(labels: Labels, seed: int, folds: int = 5) -> list[Sides]:
    """Training, validation and test clips: of the split column, else of each fold in turn, else of ``folds`` assigned with ``seed``.

    Assigned folds keep groups together and the classes in proportion. Validation is empty but for a split that has it.

    Raises
    ------
    DataError
        When a split or fold column has gaps, a side is empty, or a class that is tested is never trained on.
    """
    everyone = np.arange(len(labels))
    if any(labels.split):
        side = np.array(labels.split)
        return [_checked(labels, (everyone[side == "train"], everyone[side == "valid"], everyone[side == "test"]))]
    given = any(labels.fold)
    if given and (gaps := labels.fold.count("")):
        raise DataError(f"{gaps} of {len(labels)} clips have no fold; fill the column fold, or leave it out")
    fold = np.array(labels.fold) if given else assign_folds(_groups(labels), labels.target, folds, seed)
    tests = [(fold != name, fold == name) for name in np.unique(fold)]
    return [_checked(labels, (everyone[train], everyone[:0], everyone[test]), None if given else seed) for train, test in tests]


def _groups(labels: Labels) -> NDArray[Any]:
    """The group of each clip, of a table that can be divided."""
    groups = labels.blocks()
    if len(set(labels.group)) == 1 and labels.group[0]:
        raise DataError(f"all {len(labels)} clips belong to the group {labels.group[0]!r}; there must be two groups, or no column group")
    return groups


def _checked(labels: Labels, sides: Sides, seed: int | None = None) -> Sides:
    """The sides, unless they cannot be used; ``seed`` is that of assigned folds."""
    train, _, test = sides
    if not len(train) or not len(test):
        raise DataError(f"{len(train)} clips to train and {len(test)} to test on; the columns split or fold must give some of each")
    unseen = (labels.target.counts(test) > 0) & (labels.target.counts(train) == 0)
    if unseen.any() and seed is not None:
        raise DataError(_lonely(labels, int(np.flatnonzero(unseen)[0]), seed))
    if unseen.any():
        names = ", ".join(np.array(labels.classes)[unseen])
        raise DataError(f"classes that are tested but missing from the training clips: {names}; move some clips, or leave these out")
    return sides


def _lonely(labels: Labels, kind: int, seed: int) -> str:
    """Why assigned folds test a class without training on it."""
    clips = labels.target.clips_of(kind)
    groups = len(set(labels.blocks(clips)))
    unit = "group" if any(labels.group) else "clip"
    told = f"class {labels.classes[kind]!r} has {_count(len(clips), 'clip')}{f' in {_count(groups, unit)}' if unit == 'group' else ''}"
    if groups < 2:
        return f"{told}; it needs two {unit}s, one to be tested and one to train on; add one, or leave the class out"
    return f"{told}, all on one side of a fold assigned with seed {seed}; part them by a column split or fold, or leave the class out"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Part:
    """Rows of a table for one model; ``name`` is empty where there is one part only."""

    name: str
    train: Index
    valid: Index
    test: Index


def parts_of(labels: Labels, seed: int, share: float) -> list[Part]:
    """The parts of a table: its split, or one for each fold, or one that tests `TEST_FRACTION` of the clips, held out with ``seed``.

    Validation clips are those of the split valid, or ``share`` of the training clips, 0 for none; clips of a group stay on one side.
    None is ever taken from the test clips. A table whose split has no test is allowed: nothing is tested then.

    Raises
    ------
    DataError
        As `partitions`; and when a side that trains has fewer than two classes, or lacks one that chooses or tests; and when two
        folds differ only in signs that a folder cannot have.
    """
    if any(labels.split) and "test" not in labels.split:
        rows, side = np.arange(len(labels)), np.array(labels.split)
        if "train" not in labels.split:
            raise DataError("no clip of the table trains; its split must say train in some rows")
        sides = [(rows[side == "train"], rows[side == "valid"], rows[:0])]
    elif any(labels.split) or any(labels.fold):
        sides = partitions(labels, seed)
    else:
        held = hold_out(_groups(labels), labels.target, TEST_FRACTION, seed)
        sides = [_checked(labels, (np.flatnonzero(~held), np.arange(0), np.flatnonzero(held)))]
    folds = sorted(set(labels.fold)) if any(labels.fold) and not any(labels.split) else [""]
    names = [_name(fold) for fold in folds]
    if twin := next((k for k, name in enumerate(names) if name in names[:k]), None):
        raise DataError(f"the folds {folds[names.index(names[twin])]!r} and {folds[twin]!r} would share a folder; rename one of them")
    found = []
    for name, (train, valid, test) in zip(names, sides, strict=True):
        if not len(valid) and share > 0:
            held = hold_out(labels.blocks(train), labels.target.take(train), share, seed)
            train, valid = train[~held], train[held]
        found.append(_trainable(labels, Part(name, train, valid, test)))
    return found


def _name(fold: str) -> str:
    """Return the name of the part that tests a fold: the fold itself where it begins with "fold", else ``fold-`` and the fold."""
    folder = re.sub(UNFIT, "_", fold)
    return folder if not fold or folder.lower().startswith("fold") else f"fold-{folder}"


def _trainable(labels: Labels, part: Part) -> Part:
    there = {side: set(np.flatnonzero(labels.target.counts(rows)).tolist()) for side, rows in vars(part).items() if side != "name"}
    where = f" of {part.name}" if part.name else ""
    if len(there["train"]) < 2:
        names = ", ".join(labels.classes[k] for k in there["train"]) or "none"
        raise DataError(f"the training clips{where} are all of one class ({names}); a classifier needs at least two to tell apart")
    for side in ("valid", "test"):
        if unseen := sorted(there[side] - there["train"]):
            names = ", ".join(labels.classes[k] for k in unseen)
            raise DataError(
                f"the split {side}{where} has classes that no clip trains: {names}; move some clips to train, or leave these out"
            )
    return part


def few_choose(labels: Labels, parts: Sequence[Part], share: float) -> list[str]:
    """Remarks on parts where no clip, or next to none, could be held out to choose the weights by."""
    if not share or "valid" in labels.split:
        return []
    unit, found = "group" if any(labels.group) else "clip", []
    for part in parts:
        where, clips = f"{part.name}: " if part.name else "", len(part.valid)
        if not clips:
            lacking = "no group is small enough" if unit == "group" else "no clip can be spared"
            found.append(f"{where}{lacking} to choose the weights by: the last are kept; give a split valid")
        elif too_few(clips, clips + len(part.train), share):
            found.append(
                f"{where}only {clips} of {clips + len(part.train)} clips could be spared to choose the weights by; give a split valid"
            )
    return found
