"""Dealing labelled clips out to folds and validation: groups stay whole, classes stay in proportion, nothing is random."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

VALIDATION = 5  # one part in five of the training clips validates, our choice (hear-preprocess takes one in nine)


def deal(labels: Sequence[str], groups: Sequence[str], parts: int) -> list[int]:
    """The part of each clip.

    The largest group goes first, each to the part where the classes are then spread most evenly: the one that adds least to the sum
    of squares, over classes c and parts p, of n_cp / n_c.

    Parameters
    ----------
    labels, groups : sequence of str
        Class and group of each clip; clips of a group come into the same part.
    parts : int

    Returns
    -------
    list of int
        From 0 to ``parts`` - 1. The same for the same clips in any order.

    Examples
    --------
    >>> deal(["dog", "cat", "dog", "cat"], ["a", "a", "b", "b"], 2)
    [0, 0, 1, 1]
    """
    classes = {name: number for number, name in enumerate(sorted(set(labels)))}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for label, group in zip(labels, groups, strict=True):
        counts[group][classes[label]] += 1
    total = sum(counts.values(), np.zeros(len(classes)))
    dealt, home = np.zeros((parts, len(classes))), {}
    for group in sorted(counts, key=lambda name: (-counts[name].sum(), name)):
        share = counts[group] / total
        home[group] = int(((2 * dealt + share) * share).sum(axis=1).argmin())
        dealt[home[group]] += share
    return [home[group] for group in groups]


def validation(labels: Sequence[str], groups: Sequence[str]) -> list[bool]:
    """Which training clips validate: a fifth, groups whole where every class has at least `VALIDATION` of them, single clips otherwise."""
    homes: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        homes[label].add(group)
    grouped = min((len(home) for home in homes.values()), default=0) >= VALIDATION
    units = groups if grouped else [f"{number:09d}" for number in range(len(labels))]
    return [part == VALIDATION - 1 for part in deal(labels, units, VALIDATION)]
