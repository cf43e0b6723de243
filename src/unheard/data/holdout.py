"""Who trains, who chooses the weights, and who tests: the sides of a table of labels for fine-tuning."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from unheard.data.label_table import Index, Labels, partitions
from unheard.errors import DataError
from unheard.metrics import together

UNFIT = r"[^\w.-]"  # characters that have no place in the name of a folder


@dataclass(frozen=True)
class Part:
    """Rows of a table for one model; ``name`` is empty where there is one part only."""

    name: str
    train: Index
    valid: Index
    test: Index


def parts_of(labels: Labels, seed: int, share: float) -> list[Part]:
    """The parts of a table: its split, or one for each fold, or one dealt out with ``seed`` that tests a fifth of the clips.

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
        sides = [(rows[side == "train"], rows[side == "valid"], rows[:0])]
        if not len(sides[0][0]):
            raise DataError("no clip of the table trains; its split must say train in some rows")
    else:
        sides = list(partitions(labels, seed))
    folds = sorted(set(labels.fold)) if any(labels.fold) and not any(labels.split) else [""]
    folders = [re.sub(UNFIT, "_", name) for name in folds]
    if twin := next((k for k, folder in enumerate(folders) if folder in folders[:k]), None):
        raise DataError(f"the folds {folds[folders.index(folders[twin])]!r} and {folds[twin]!r} would share a folder; rename one of them")
    found = []
    for name, folder, (train, valid, test) in zip(folds, folders, sides, strict=False):  # of folds that were dealt out here, the first
        if not len(valid) and share > 0:
            train, valid = hold_out(labels, train, seed, share)
        found.append(_checked(labels, Part(f"fold-{folder}" if name else "", train, valid, test)))
    return found


def _checked(labels: Labels, part: Part) -> Part:
    there = {side: set(np.flatnonzero(labels.target[rows].any(axis=0))) for side, rows in vars(part).items() if side != "name"}
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


def hold_out(labels: Labels, train: Index, seed: int, share: float) -> tuple[Index, Index]:
    """Take about ``share`` of the clips of each class out of ``train``, groups kept together; none when every group is too large.

    Groups are looked at in an order drawn from ``seed``; one is taken when no class then has more than its share (rounded up) taken,
    and every class keeps a clip to train on.
    """
    groups = together(labels.blocks(train))
    target = labels.target[train]
    total = target.sum(axis=0)
    most, taken, chosen, room = np.ceil(share * total), np.zeros_like(total), np.zeros(len(train), bool), np.ceil(share * len(train))
    for number in np.random.default_rng(seed).permutation(np.arange(len(groups))):
        members = groups[number]
        mine = target[members].sum(axis=0)
        after = taken + mine
        fits = (after <= most) & (after < np.maximum(total, 1))
        if len(members) <= room and fits[mine > 0].all():
            chosen[members], taken, room = True, after, room - len(members)
    return train[~chosen], train[chosen]
