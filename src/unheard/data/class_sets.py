"""The classes of every clip of a table, stored as lists of class indices, so that millions of clips fit in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int, Int8

Index = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class ClassSets:
    """A sparse matrix of 0 and 1 (clips, classes).

    Parameters
    ----------
    numbers : Int[ndarray, "m"]
        Class indices of all clips, one clip after the other, sorted within a clip.
    bounds : Int[ndarray, "n+1"]
        Clip k has the indices from ``bounds[k]`` to ``bounds[k + 1]``.
    num_classes : int
    """

    numbers: Index
    bounds: Index
    num_classes: int

    @classmethod
    def from_lists(cls, lists: Iterable[tuple[int, ...]], num_classes: int) -> ClassSets:
        """Create the sets from the sorted class indices of each clip; the iterable must allow two passes."""
        sizes = np.fromiter((len(each) for each in lists), np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, int(bounds[-1])), bounds, num_classes)

    @classmethod
    def from_dense(cls, matrix: Int[np.ndarray, "n C"]) -> ClassSets:
        """Create the sets from a matrix of 0 and 1."""
        clips, numbers = np.nonzero(matrix)
        bounds = np.searchsorted(clips, np.arange(len(matrix) + 1))
        return cls(numbers.astype(np.int32), bounds, matrix.shape[1])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of clips and classes."""
        return len(self), self.num_classes

    @property
    def sizes(self) -> Index:
        """Return the number of classes of each clip."""
        return np.asarray(self.bounds[1:] - self.bounds[:-1])

    @property
    def first(self) -> Index:
        """Return the first class of each clip; 0 for a clip without classes."""
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
        """Return the ones of some rows as two arrays: the position in ``rows``, and the class index."""
        begin, sizes = self.bounds[rows], self.bounds[rows + 1] - self.bounds[rows]
        place = np.repeat(np.arange(len(rows)), sizes)
        return place, self.numbers[np.arange(len(place)) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)]

    def take(self, rows: Index) -> ClassSets:
        """Return the sets of some rows."""
        bounds = np.concatenate([[0], np.cumsum(self.bounds[rows + 1] - self.bounds[rows])])
        return ClassSets(self.pairs(rows)[1], bounds, self.num_classes)

    def counts(self, rows: Index | None = None) -> Index:
        """Return the number of clips of each class, over some rows or all."""
        return np.bincount(self.numbers if rows is None else self.pairs(rows)[1], minlength=self.num_classes)

    def clips_of(self, number: int) -> Index:
        """Return the clips that have a class."""
        return np.searchsorted(self.bounds, np.flatnonzero(self.numbers == number), side="right") - 1

    def grouped(self, rows: Index, group: Index, count: int) -> GroupCounts:
        """Count the clips of each class within each group; ``group`` has the group index of each of ``rows``."""
        place, numbers = self.pairs(rows)
        keys, clips = np.unique(group[place] * np.int64(self.num_classes) + numbers, return_counts=True)
        owner, numbers = np.divmod(keys, self.num_classes)
        return GroupCounts(owner, numbers, clips, np.searchsorted(owner, np.arange(count + 1)))

    def renumbered(self, numbers: list[int], num_classes: int) -> ClassSets:
        """Return the same sets with class k renumbered to ``numbers[k]`` of ``num_classes`` classes."""
        changed = np.asarray(numbers, np.int32)[self.numbers]
        order = np.lexsort((changed, np.repeat(np.arange(len(self)), self.sizes)))
        return ClassSets(changed[order], self.bounds, num_classes)


@dataclass(frozen=True, eq=False)
class AnnotatedClasses:
    """The annotated classes of every clip of a table; only those of partially annotated clips are stored.

    Parameters
    ----------
    partial : Bool[ndarray, "n"]
        Clips with classes that are not annotated.
    sets : ClassSets
        The annotated classes of these clips; empty for the others.
    """

    partial: Bool[np.ndarray, " n"]
    sets: ClassSets

    @classmethod
    def from_dense(cls, matrix: Bool[np.ndarray, "n C"]) -> AnnotatedClasses:
        """Create it from a matrix that is True for annotated classes."""
        partial = np.asarray(~matrix.all(axis=1))
        return cls(partial, ClassSets.from_dense((matrix & partial[:, None]).astype(np.int64)))

    @property
    def sizes(self) -> Index:
        """Return the number of annotated classes of every clip."""
        return np.where(self.partial, self.sets.sizes, self.sets.num_classes)

    def __getitem__(self, rows: int | np.integer | slice | Index) -> Bool[np.ndarray, "*k C"]:
        """Return rows of the matrix that is True for annotated classes: (C,) for a number, (k, C) for several rows."""
        return np.asarray(self.sets[rows].astype(bool) | ~self.partial[rows][..., None])

    def take(self, rows: Index) -> AnnotatedClasses:
        """Return the entries of some rows."""
        return AnnotatedClasses(self.partial[rows], self.sets.take(rows))

    def renumbered(self, numbers: list[int], num_classes: int) -> AnnotatedClasses:
        """Return the same with class k renumbered to ``numbers[k]``.

        Other classes are annotated in the clips that are completely annotated.
        """
        return AnnotatedClasses(self.partial, self.sets.renumbered(numbers, num_classes))


@dataclass(frozen=True, eq=False)
class GroupCounts:
    """Number of clips of each class in the groups of a table; classes that do not occur in a group are not stored.

    Parameters
    ----------
    owner, numbers, clips : Int[ndarray, "m"]
        Group, class, and number of clips of the class in the group, sorted by group.
    bounds : Int[ndarray, "G+1"]
        Group g has the entries from ``bounds[g]`` to ``bounds[g + 1]``.
    """

    owner: Index
    numbers: Index
    clips: Index
    bounds: Index

    def of(self, group: int) -> tuple[Index, Index]:
        """Return the classes of a group, and the number of clips of each."""
        entries = slice(self.bounds[group], self.bounds[group + 1])
        return self.numbers[entries], self.clips[entries]
