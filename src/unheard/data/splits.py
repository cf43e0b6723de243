"""Splits and folds of labelled clips: the only module that assigns clips, or whole groups of them, to a side.

`assign_folds`           folds of a user's table, and inner folds of a probe: iterative stratification
`hold_out`               validation or test clips of fine-tuning
`draw_subset`            training clips of a learning curve
`published_folds`, `published_validation`   the same for shipped tasks, whose assignments never change

Callers give the group and the classes (strata) of each clip; a clip without a group forms its own group. A group is
never on two sides.

`assign_folds` is an iterative stratification (Sechidis et al. 2011). Among groups of about one size, those with rare
classes come first, and each goes to the fold that lacks most. All classes of the group and its clips count, as in
scikit-learn's StratifiedGroupKFold, not only its rarest class. StratifiedGroupKFold itself is not suitable. It takes
one class a clip, may put all groups of a class into one fold, and evaluates a dense matrix for each group and fold.
Besides, scikit-learn is an optional extra. Comparison: docs/log.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from unheard.data.class_sets import ClassSets, GroupCounts, Index

VALIDATION = 5  # a fifth of the training clips is for validation, our choice (hear-preprocess: a ninth)
WHOLE, LAST = (
    1 - 1e-8,
    1e4,
)  # a fold with this fraction of a class holds all of it, which costs more than any other assignment


Labelled = tuple[str, ...]
"""Path, label, split, fold and group of a clip."""


def deduplicate(rows: Sequence[Labelled], content: Mapping[str, str]) -> list[Labelled]:
    """Return every sound once: of files with the same content the test clip, else the first; none if their labels
    differ.

    Parameters
    ----------
    content : mapping of str to str
        Path -> hash of the bytes; empty where unknown.
    """
    copies: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        copies[content[row[0]] or row[0]].append(row)
    kept = [
        min(same, key=lambda row: (row[2] != "test", row[0]))
        for same in copies.values()
        if len({row[1] for row in same}) == 1
    ]
    return sorted(kept)


def merge_groups_by_content(rows: Sequence[Labelled], content: Mapping[str, str]) -> dict[str, str]:
    """Map each group to the first, by name, of all groups that share files with the same content."""
    first = {row[4]: row[4] for row in rows}

    def head(group: str) -> str:
        while first[group] != group:
            group = first[group]
        return group

    first_groups: dict[str, str] = {}
    for row in rows:
        one, other = head(row[4]), head(first_groups.setdefault(content[row[0]] or row[0], row[4]))
        first[max(one, other)] = min(one, other)
    return {group: head(group) for group in first}


def assign_folds(groups: Sequence[str] | NDArray[Any], strata: ClassSets, n_folds: int, seed: int) -> Index:
    """Assign groups of clips to folds, every class in proportion.

    Groups come in decreasing order of size (powers of two), then of rarity of their rarest class, then at random. Each
    goes to the fold that adds least to the sum of squares, over classes c and folds f, of n_cf / n_c, where all clips
    together count as a class. A fold that would hold all clips of a class comes last, so a class of two groups is in
    two folds whenever the other classes of its groups allow it.

    Parameters
    ----------
    groups : sequence of str, (n,)
        Group of each clip.
    strata : ClassSets, (n, C)
        Classes of each clip: none, one or several.
    n_folds : int
        Fewer when there are fewer groups.
    seed : int
        The same groups and classes give the same folds in any order of the rows.

    Returns
    -------
    Int[ndarray, "n"]
        Fold of each clip, from 0.

    Examples
    --------
    >>> strata = ClassSets.from_lists([(0,), (1,), (0,), (1,)], 2)
    >>> sorted(assign_folds(["a", "a", "b", "b"], strata, 2, seed=0).tolist())
    [0, 0, 1, 1]
    """
    group, sizes, counts = _grouped(groups, strata)
    groups_of = np.bincount(counts.numbers, minlength=strata.num_classes)
    rarity = np.full(len(sizes), len(sizes))
    np.minimum.at(rarity, counts.owner, groups_of[counts.numbers])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(sizes)), rarity, -np.log2(sizes).astype(np.int64)))
    fold, folds = np.empty(len(sizes), np.int64), range(min(n_folds, len(sizes)))
    shares, sizes = counts.clips / strata.counts()[counts.numbers], sizes / max(1, len(group))
    filled = [
        [0.0 for _ in folds] for _ in range(strata.num_classes + 1)
    ]  # fraction of each class in each fold; the last is all clips
    for number in order.tolist():  # lists, for numpy takes ten times as long on a few values
        entries = slice(counts.bounds[number], counts.bounds[number + 1])
        block = [
            (filled[c], share)
            for c, share in zip(counts.numbers[entries].tolist(), shares[entries].tolist(), strict=True)
        ]
        block.append((filled[-1], float(sizes[number])))
        cost = [0.0 for _ in folds]
        for row, share in block:
            for place in folds:
                cost[place] += share * row[place] if row[place] + share < WHOLE else LAST
        best = cost.index(min(cost))
        fold[number] = best
        for row, share in block:
            row[best] += share
    return np.asarray(fold[group])


def hold_out(
    groups: Sequence[str] | NDArray[Any], strata: ClassSets, fraction: float, seed: int
) -> Bool[np.ndarray, " n"]:
    """Hold out about a fraction of the clips of each class; groups stay together, and every class keeps a training
    clip.

    Groups come in random order. One is held out if no class then has more than its fraction (rounded up) held out. If
    that gives less than half of the fraction (our choice), the smallest groups that leave a clip of every class are
    held out too.

    Parameters
    ----------
    groups : sequence of str, (n,)
        Group of each clip.
    strata : ClassSets, (n, C)
        Classes of each clip: none, one or several.
    fraction : float
        Between 0 and 1.
    seed : int
        The same groups and classes give the same clips in any order of the rows.

    Returns
    -------
    Bool[ndarray, "n"]
        True for held-out clips. None or few are True when few groups can be held out.
    """
    group, sizes, counts = _grouped(groups, strata)
    held, order, room = (
        np.zeros(len(sizes), bool),
        np.random.default_rng(seed).permutation(len(sizes)),
        np.ceil(fraction * len(group)),
    )
    total = strata.counts()
    spare = np.maximum(total, 1) - 1  # clips of each class that may be held out
    most = np.minimum(np.ceil(fraction * total), spare).astype(np.int64)
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
        if not too_few(taken, len(group), fraction):
            break
        classes, clips = counts.of(number)
        if (clips <= spare[classes]).all():
            held[number], taken = True, taken + int(sizes[number])
            spare[classes] -= clips
    return np.asarray(held[group])


def too_few(held: int, clips: int, fraction: float) -> bool:
    """Return whether fewer than half of the requested fraction of ``clips`` are held out."""
    return held < fraction * clips / 2


def draw_subset(strata: ClassSets, fraction: float, seed: int) -> Index:
    """Sample a fraction of the clips, at least one a class; a larger fraction with the same seed contains the smaller
    ones.

    Single clips are sampled, also from groups: a subset is not a side of a split.

    Returns
    -------
    Int[ndarray, "k"]
        Row numbers, sorted.
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    place, numbers = strata.pairs(order)
    taken = np.arange(len(order)) < round(fraction * len(order))
    taken[place[np.unique(numbers, return_index=True)[1]]] = True
    return np.sort(order[taken])


def published_folds(labels: Sequence[str], groups: Sequence[str], n_folds: int) -> list[int]:
    """Assign groups to folds without random numbers, as in published tables.

    The largest group comes first, and equal ones by name. Each goes to the fold that adds least to the sum of squares,
    over classes c and folds f, of n_cf / n_c. Two folds may differ by rounding only, so another order of summation
    would change stored tables.

    Parameters
    ----------
    labels, groups : sequence of str
        Class and group of each clip.
    n_folds : int

    Returns
    -------
    list of int
        From 0 to ``n_folds`` - 1. The same for the same clips in any order.

    Examples
    --------
    >>> published_folds(["dog", "cat", "dog", "cat"], ["a", "a", "b", "b"], 2)
    [0, 0, 1, 1]
    """
    classes = {name: number for number, name in enumerate(sorted(set(labels)))}
    shares: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for label, group in zip(labels, groups, strict=True):
        shares[group][classes[label]] += 1
    order = sorted(shares, key=lambda name: (-shares[name].sum(), name))
    total, filled, fold = (
        sum(shares.values(), np.zeros(len(classes))),
        np.zeros((n_folds, len(classes))),
        dict[str, int](),
    )
    for group in order:
        share = shares[group] / total
        fold[group] = int(((2 * filled + share) * share).sum(axis=1).argmin())
        filled[fold[group]] += share
    return [fold[group] for group in groups]


def published_validation(labels: Sequence[str], groups: Sequence[str]) -> list[bool]:
    """Select the validation clips among the training clips of shipped tasks: a fifth, by `published_folds`.

    Groups stay together if every class has at least `VALIDATION` of them; otherwise single clips are selected.
    """
    homes: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        homes[label].add(group)
    grouped = min((len(home) for home in homes.values()), default=0) >= VALIDATION
    units = groups if grouped else [f"{number:09d}" for number in range(len(labels))]
    return [fold == VALIDATION - 1 for fold in published_folds(labels, units, VALIDATION)]


def _grouped(groups: Sequence[str] | NDArray[Any], strata: ClassSets) -> tuple[Index, Index, GroupCounts]:
    """Return the group index of each clip, the clips of each group, and the clips of each class in each group."""
    place = {
        name: number for number, name in enumerate(sorted(set(groups)))
    }  # np.unique takes ten times as long on millions of names
    group = np.fromiter((place[name] for name in groups), np.int64, len(groups))
    return group, np.bincount(group, minlength=len(place)), strata.grouped(np.arange(len(group)), group, len(place))
