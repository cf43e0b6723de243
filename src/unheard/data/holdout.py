"""Who trains, who chooses the weights, and who tests: the sides of a table of labels for fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.partitions import partitions
from unheard.errors import DataError

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
        if "train" not in labels.split:
            raise DataError("no clip of the table trains; its split must say train in some rows")
        sides = iter([(rows[side == "train"], rows[side == "valid"], rows[:0])])
    else:
        sides = partitions(labels, seed)
    folds = sorted(set(labels.fold)) if any(labels.fold) and not any(labels.split) else [""]
    names = [_name(fold) for fold in folds]
    if twin := next((k for k, name in enumerate(names) if name in names[:k]), None):
        raise DataError(f"the folds {folds[names.index(names[twin])]!r} and {folds[twin]!r} would share a folder; rename one of them")
    found = []
    for name, (train, valid, test) in zip(names, sides, strict=False):  # of folds that were dealt out here, the first
        if not len(valid) and share > 0:
            train, valid = hold_out(labels, train, seed, share)
        found.append(_checked(labels, Part(name, train, valid, test)))
    return found


def _name(fold: str) -> str:
    """What the part that tests a fold is called: as the fold where that says what it is, else with ``fold-`` before it."""
    folder = re.sub(UNFIT, "_", fold)
    return folder if not fold or folder.lower().startswith("fold") else f"fold-{folder}"


def _checked(labels: Labels, part: Part) -> Part:
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


def hold_out(labels: Labels, train: Index, seed: int, share: float) -> tuple[Index, Index]:
    """Take about ``share`` of the clips of each class out of ``train``, groups kept together.

    Groups are looked at in an order drawn from ``seed``; one is taken when no class then has more than its share (rounded up) taken,
    and every class keeps a clip to train on. Where that gives less than half of the share (our choice), the smallest
    groups that leave every class a clip are taken too, however large; where there are none, few or none are held out.
    """
    group = np.unique(labels.blocks(train), return_inverse=True)[1]
    sizes = np.bincount(group)
    held, order, room = np.zeros(len(sizes), bool), np.random.default_rng(seed).permutation(len(sizes)), np.ceil(share * len(train))
    counts, total = labels.target.grouped(train, group, len(sizes)), labels.target.counts(train)
    spare = np.maximum(total, 1) - 1  # clips of each class that may go
    most = np.minimum(np.ceil(share * total), spare).astype(np.int64)
    left = most.copy()
    for number in order.tolist():
        classes, clips = counts.of(number)
        if sizes[number] <= room and (clips <= left[classes]).all():
            held[number], room = True, room - sizes[number]
            left[classes] -= clips
    spare -= most - left
    taken = int(sizes[held].sum())
    others = order[~held[order]]
    for number in others[np.argsort(sizes[others], kind="stable")].tolist():
        if not _few(taken, len(train), share):
            break
        classes, clips = counts.of(number)
        if (clips <= spare[classes]).all():
            held[number], taken = True, taken + int(sizes[number])
            spare[classes] -= clips
    chosen = held[group]
    return train[~chosen], train[chosen]


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
        elif _few(clips, clips + len(part.train), share):
            found.append(
                f"{where}only {clips} of {clips + len(part.train)} clips could be spared to choose the weights by; give a split valid"
            )
    return found


def _few(clips: int, among: int, share: float) -> bool:
    """Whether fewer than half as many clips as asked for are held out."""
    return clips < share * among / 2
