"""Dealing labelled clips out to folds and validation: groups stay whole, classes stay in proportion, nothing is random.

Packages repeat sounds under other names (a drum kit inside another, a phrase lent from voice to voice), so what counts is content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

VALIDATION = 5  # one part in five of the training clips validates, our choice (hear-preprocess takes one in nine)


Labelled = tuple[str, ...]
"""Path, label, split, fold and group of a clip."""


def distinct(rows: Sequence[Labelled], content: Mapping[str, str]) -> list[Labelled]:
    """Every sound once: of files with the same content the tested one, or else the first; none when their labels differ.

    Parameters
    ----------
    content : mapping of str to str
        Path -> hash of the bytes; empty where it is not known.
    """
    copies: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        copies[content[row[0]] or row[0]].append(row)
    kept = [min(same, key=lambda row: (row[2] != "test", row[0])) for same in copies.values() if len({row[1] for row in same}) == 1]
    return sorted(kept)


def kin(rows: Sequence[Labelled], content: Mapping[str, str]) -> dict[str, str]:
    """Group -> the first, by name, of all groups it is linked to by files with the same content."""
    first = {row[4]: row[4] for row in rows}

    def head(group: str) -> str:
        while first[group] != group:
            group = first[group]
        return group

    seen: dict[str, str] = {}
    for row in rows:
        one, other = head(row[4]), head(seen.setdefault(content[row[0]] or row[0], row[4]))
        first[max(one, other)] = min(one, other)
    return {group: head(group) for group in first}


def deal(labels: Sequence[str], groups: Sequence[str], parts: int) -> list[int]:
    """The part of each clip.

    The largest group goes first, each to the part where the classes are then spread most evenly, see `even`.

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
    order = sorted(counts, key=lambda name: (-counts[name].sum(), name))
    blocks = np.array([counts[name] for name in order]).reshape(len(order), len(classes))
    home = dict(zip(order, even(blocks, blocks.sum(axis=0), parts), strict=True))
    return [home[group] for group in groups]


def even(blocks: Iterable[Float[np.ndarray, " C"]], clips: Float[np.ndarray, " C"], parts: int) -> list[int]:
    """The part of each block, dealt one by one: the part that adds least to the sum of squares, over classes c and parts p, of n_cp / n_c.

    Parameters
    ----------
    blocks : iterable of Float[ndarray, "C"]
        Clips of each class in each block.
    clips : Float[ndarray, "C"]
        Clips of each class in all blocks.
    parts : int
    """
    total = np.maximum(clips, 1)
    dealt, home = np.zeros((parts, len(total))), list[int]()
    for counts in blocks:
        share = counts / total
        home.append(int(((2 * dealt + share) * share).sum(axis=1).argmin()))
        dealt[home[-1]] += share
    return home


def validation(labels: Sequence[str], groups: Sequence[str]) -> list[bool]:
    """Which training clips validate: a fifth, groups whole where every class has at least `VALIDATION` of them, single clips otherwise."""
    homes: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        homes[label].add(group)
    grouped = min((len(home) for home in homes.values()), default=0) >= VALIDATION
    units = groups if grouped else [f"{number:09d}" for number in range(len(labels))]
    return [part == VALIDATION - 1 for part in deal(labels, units, VALIDATION)]
