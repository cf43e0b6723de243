"""The training, validation and test clips of a table of labels: its splits, its folds, or folds that are made here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.splits import even
from unheard.errors import DataError, missing_extra


def partitions(labels: Labels, seed: int, folds: int = 5) -> Iterator[tuple[Index, Index, Index]]:
    """Training, validation and test clips: of the split column, else of each fold in turn, else of ``folds`` made with ``seed``.

    Made folds keep groups together and the classes in proportion. Validation is empty but for a split that has it. Each part is
    checked when it is asked for, so who needs the first only is not refused for the others.

    Raises
    ------
    DataError
        When a split or fold column has gaps, a side is empty, or a class that is tested is never trained on.
    """
    everyone = np.arange(len(labels))
    if any(labels.split):
        sides = [everyone[np.array(labels.split) == side] for side in ("train", "valid", "test")]
        yield _checked(labels, sides[0], sides[1], sides[2])
        return
    given = any(labels.fold)
    fold = np.array(labels.fold) if given else _made_folds(labels, seed, folds)
    if (fold == "").any():
        raise DataError(f"{int((fold == '').sum())} of {len(fold)} clips have no fold; fill the column fold, or leave it out")
    for name in np.unique(fold):
        yield _checked(labels, everyone[fold != name], everyone[:0], everyone[fold == name], None if given else seed)


def _checked(labels: Labels, train: Index, valid: Index, test: Index, dealt: int | None = None) -> tuple[Index, Index, Index]:
    """The sides, unless they cannot be used; ``dealt`` is the seed of folds that were made here."""
    if not len(train) or not len(test):
        raise DataError(f"{len(train)} clips to train and {len(test)} to test on; the columns split or fold must give some of each")
    unseen = (labels.target.counts(test) > 0) & (labels.target.counts(train) == 0)
    if unseen.any() and dealt is not None:
        raise DataError(_lonely(labels, int(np.flatnonzero(unseen)[0]), dealt))
    if unseen.any():
        names = ", ".join(np.array(labels.classes)[unseen])
        raise DataError(f"classes that are tested but missing from the training clips: {names}; move some clips, or leave these out")
    return train, valid, test


def _lonely(labels: Labels, kind: int, seed: int) -> str:
    """Why folds that were dealt out here test a class without training on it."""
    clips = labels.target.clips_of(kind)
    groups = len(set(labels.blocks(clips)))
    unit = "group" if any(labels.group) else "clip"
    told = f"class {labels.classes[kind]!r} has {_count(len(clips), 'clip')}{f' in {_count(groups, unit)}' if unit == 'group' else ''}"
    if groups < 2:
        return f"{told}; it needs two {unit}s, one to be tested and one to train on; add one, or leave the class out"
    return f"{told}, all on one side of a fold dealt with seed {seed}; part them by a column split or fold, or leave the class out"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _made_folds(labels: Labels, seed: int, folds: int) -> NDArray[Any]:
    """The fold of each clip."""
    blocks, count = labels.blocks(), labels.target.counts()
    if len(set(blocks)) == 1:
        raise DataError(f"all {len(labels)} clips belong to the group {str(blocks[0])!r}; there must be two groups, or no column group")
    if labels.multilabel or count.min() < 2:
        return _dealt_folds(labels, seed, folds)
    try:
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    except ImportError as error:
        raise missing_extra("scikit-learn", "eval") from error
    fold = np.empty(len(labels), dtype="<U8")
    kind, groups = (StratifiedGroupKFold, blocks) if any(labels.group) else (StratifiedKFold, None)
    splitter = kind(min(folds, int(count.min()), len(set(blocks))), shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels.index, groups)):
        fold[test] = str(number)
    return fold if _trains_every_class(labels, fold) else _dealt_folds(labels, seed, folds)


def _trains_every_class(labels: Labels, fold: NDArray[Any]) -> bool:
    """Whether the clips of each class are in two folds or more."""
    names, number = np.unique(fold, return_inverse=True)
    counts = labels.target.grouped(np.arange(len(labels)), number, len(names))
    return bool((np.bincount(counts.numbers, minlength=len(labels.classes)) > 1).all())


def _dealt_folds(labels: Labels, seed: int, folds: int) -> NDArray[Any]:
    """The fold of each clip of a table with rare classes: the blocks of the rarest class go first, and to the last folds."""
    names, block = np.unique(labels.blocks(), return_inverse=True)
    counts, sizes = labels.target.grouped(np.arange(len(labels)), block, len(names)), np.bincount(block)
    rarity = np.full(len(names), len(names))
    np.minimum.at(rarity, counts.owner, np.bincount(counts.numbers, minlength=len(labels.classes))[counts.numbers])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(names)), rarity))
    parts = min(folds, len(names))
    home = np.empty(len(names), np.int64)
    blocks = (_dense(int(sizes[number]), *counts.of(number), len(labels.classes)) for number in order.tolist())
    home[order] = parts - 1 - np.array(even(blocks, np.array([len(labels), *labels.target.counts()], np.float64), parts))
    return home[block].astype(np.str_)


def _dense(size: int, numbers: Index, clips: Index, num_classes: int) -> Float64[np.ndarray, " K"]:
    """Clips of a group, then its clips of each class."""
    row = np.zeros(1 + num_classes)
    row[0], row[1 + numbers] = size, clips
    return row
