"""The classes of every clip of a table, stored as short lists of class numbers: a table of millions of clips fits in
memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int, Int8

Index = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class ClassSets:
    """A matrix of 0 and 1 (clips, classes) of which only the ones are stored.

    Parameters
    ----------
    numbers : Int[ndarray, "m"]
        Class numbers of all clips, one clip after the other, sorted within a clip.
    bounds : Int[ndarray, "n+1"]
        Clip k has the numbers from ``bounds[k]`` to ``bounds[k + 1]``.
    num_classes : int
    """

    numbers: Index
    bounds: Index
    num_classes: int

    @classmethod
    def from_lists(cls, lists: Iterable[tuple[int, ...]], num_classes: int) -> ClassSets:
        """Make the sets of clips from the sorted class numbers of each; the iterable must allow two passes."""
        sizes = np.fromiter((len(each) for each in lists), np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, int(bounds[-1])), bounds, num_classes)

    @classmethod
    def from_dense(cls, matrix: Int[np.ndarray, "n C"]) -> ClassSets:
        """Make the sets from a matrix of 0 and 1."""
        clips, numbers = np.nonzero(matrix)
        bounds = np.searchsorted(clips, np.arange(len(matrix) + 1))
        return cls(numbers.astype(np.int32), bounds, matrix.shape[1])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Clips and classes."""
        return len(self), self.num_classes

    @property
    def sizes(self) -> Index:
        """How many classes each clip has."""
        return np.asarray(self.bounds[1:] - self.bounds[:-1])

    @property
    def first(self) -> Index:
        """The first class of each clip; 0 where a clip has none."""
        found = np.zeros(len(self), np.int64)
        some = self.sizes > 0
        found[some] = self.numbers[self.bounds[:-1][some]]
        return found

    def __getitem__(self, rows: int | np.integer | slice | Index) -> Int8[np.ndarray, "*k C"]:
        """Return rows of the matrix: (C,) for a number, (k, C) for an array of row numbers, a mask or a slice."""
        if isinstance(rows, (int, np.integer)):
            return np.asarray(self[np.array([rows])][0])
        index = np.arange(len(self))[rows]
        dense = np.zeros((len(index), self.num_classes), np.int8)
        dense[self.pairs(index)] = 1
        return dense

    def pairs(self, rows: Index) -> tuple[Index, Index]:
        """Return the ones of some rows as two arrays: the place in ``rows``, and the class number."""
        begin, sizes = self.bounds[rows], self.bounds[rows + 1] - self.bounds[rows]
        place = np.repeat(np.arange(len(rows)), sizes)
        return place, self.numbers[np.arange(len(place)) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)]

    def take(self, rows: Index) -> ClassSets:
        """Return the sets of some rows."""
        bounds = np.concatenate([[0], np.cumsum(self.bounds[rows + 1] - self.bounds[rows])])
        return ClassSets(self.pairs(rows)[1], bounds, self.num_classes)

    def counts(self, rows: Index | None = None) -> Index:
        """Return how many clips have each class, of some rows or of all."""
        return np.bincount(self.numbers if rows is None else self.pairs(rows)[1], minlength=self.num_classes)

    def clips_of(self, number: int) -> Index:
        """Return the clips that have a class."""
        return np.searchsorted(self.bounds, np.flatnonzero(self.numbers == number), side="right") - 1

    def grouped(self, rows: Index, group: Index, count: int) -> GroupCounts:
        """Count the clips of each class within each group; ``group`` has the number of the group of each of ``rows``."""
        place, numbers = self.pairs(rows)
        keys, clips = np.unique(group[place] * np.int64(self.num_classes) + numbers, return_counts=True)
        owner, numbers = np.divmod(keys, self.num_classes)
        return GroupCounts(owner, numbers, clips, np.searchsorted(owner, np.arange(count + 1)))

    def renumbered(self, numbers: list[int], num_classes: int) -> ClassSets:
        """Return the same sets where class k has the number ``numbers[k]`` among ``num_classes``."""
        changed = np.asarray(numbers, np.int32)[self.numbers]
        order = np.lexsort((changed, np.repeat(np.arange(len(self)), self.sizes)))
        return ClassSets(changed[order], self.bounds, num_classes)


@dataclass(frozen=True, eq=False)
class AnnotatedClasses:
    """Which classes are annotated in every clip of a table, of which only those of partly annotated clips are stored.

    Parameters
    ----------
    partial : Bool[ndarray, "n"]
        Clips of which some classes are not annotated.
    sets : ClassSets
        The annotated classes of those clips; empty for the others.
    """

    partial: Bool[np.ndarray, " n"]
    sets: ClassSets

    @classmethod
    def from_dense(cls, matrix: Bool[np.ndarray, "n C"]) -> AnnotatedClasses:
        """Make it from a matrix that is True for annotated classes."""
        partial = np.asarray(~matrix.all(axis=1))
        return cls(partial, ClassSets.from_dense((matrix & partial[:, None]).astype(np.int64)))

    def __getitem__(self, rows: int | np.integer | slice | Index) -> Bool[np.ndarray, "*k C"]:
        """Return rows of the matrix that is True for annotated classes: (C,) for a number, (k, C) for several rows."""
        return np.asarray(self.sets[rows].astype(bool) | ~self.partial[rows][..., None])

    def take(self, rows: Index) -> AnnotatedClasses:
        """Return the entries of some rows."""
        return AnnotatedClasses(self.partial[rows], self.sets.take(rows))

    def renumbered(self, numbers: list[int], num_classes: int) -> AnnotatedClasses:
        """Return the same where class k has the number ``numbers[k]``; other classes are annotated in the clips that
        are so as a whole.
        """
        return AnnotatedClasses(self.partial, self.sets.renumbered(numbers, num_classes))


@dataclass(frozen=True, eq=False)
class GroupCounts:
    """How many clips of each class the groups of a table have; classes that a group lacks are not stored.

    Parameters
    ----------
    owner, numbers, clips : Int[ndarray, "m"]
        Group, class, and clips of the class in the group, sorted by group.
    bounds : Int[ndarray, "G+1"]
        Group g has the entries from ``bounds[g]`` to ``bounds[g + 1]``.
    """

    owner: Index
    numbers: Index
    clips: Index
    bounds: Index

    def of(self, group: int) -> tuple[Index, Index]:
        """Return the classes of a group, and the clips of each."""
        entries = slice(self.bounds[group], self.bounds[group + 1])
        return self.numbers[entries], self.clips[entries]
