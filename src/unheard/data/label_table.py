"""A labels CSV in memory.

Columns: path (relative to the CSV) and label (several joined by ``|``). Optional columns:

- start, end: seconds
- split: train, valid, test
- fold
- group: clips that must stay on one side of a split, such as those of a speaker, a kit or a recording
- known: the annotated classes
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8
from numpy.typing import NDArray

from unheard.audio.folders import missing_files
from unheard.audio.waveform import read_channels
from unheard.data.class_sets import AnnotatedClasses, ClassSets, Index
from unheard.data.selections.reading import label_columns
from unheard.data.tables import (
    EMPTY_WORDS,
    read_seconds,
    refuse_empty_word,
    refuse_reversed,
    refuse_two_forms,
    refuse_two_labels,
)
from unheard.errors import DataError

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "eval": "test",
}


@dataclass(frozen=True)
class Labels:
    """A labels CSV, one entry for each row.

    Parameters
    ----------
    paths : sequence of Path
        Existing files.
    classes : list of str
        Names, sorted.
    target : ClassSets
        The classes of each clip; ``target[rows]`` is 1 where a clip has the class.
    multilabel : bool
        Whether some clip has more or fewer than one class, or a class that is not annotated.
    split, fold, group : list of str
        Empty strings where the table has no value.
    start, end : list of float or None
        Seconds of a part of the file; None for the start and end of the file.
    known : AnnotatedClasses, optional
        The annotated classes of each clip, see `known_classes`; None: all classes are annotated in all clips.
    """

    paths: Sequence[Path]
    classes: list[str]
    target: ClassSets
    multilabel: bool
    split: list[str]
    fold: list[str]
    group: list[str]
    start: list[float | None]
    end: list[float | None]
    known: AnnotatedClasses | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> list[str]:
        """Return the file of each clip as a string; equal ones are stored once."""
        return self.paths.full_names() if isinstance(self.paths, Files) else [str(path) for path in self.paths]

    @property
    def index(self) -> Index:
        """Return the class of each clip, for a table with one class a clip."""
        return self.target.first

    def annotated(self, rows: Index | None = None) -> Bool[np.ndarray, "k C"]:
        """Return the mask of annotated classes, for some clips or all."""
        index = np.arange(len(self)) if rows is None else rows
        return np.ones((len(index), len(self.classes)), bool) if self.known is None else self.known[index]

    @cached_property
    def ternary_targets(self) -> Int[np.ndarray, "n C"]:
        """Return 1 where a clip has a class, 0 where it has not, -1 where the class is not annotated.

        In a table with one class a clip, all classes are annotated. The matrix is dense, for tables whose embeddings
        fit in memory, too.
        """
        dense = self.target[:].astype(np.int64)
        return dense if self.known is None or not self.multilabel else np.where(self.known[:], dense, -1)

    def sound(self, clip: int) -> Path | tuple[Float32[np.ndarray, "c S"], int]:
        """Return the sound of a clip: its file, or all channels (c, S) and the rate of a part of a file.

        A part has all channels, so that the selected channel is the same as for a whole file.

        Raises
        ------
        AudioError
            When a part cannot be read.
        """
        start, end = self.start[clip], self.end[clip]
        if start is None and end is None:
            return self.paths[clip]
        begin = start or 0.0
        return read_channels(self.paths[clip], begin, None if end is None else end - begin)

    def format_labels(self, row: Int[np.ndarray, " C"] | Int8[np.ndarray, " C"]) -> str:
        """Return the classes of a row of 0 and 1, as written in a table."""
        return "|".join(name for name, there in zip(self.classes, row, strict=True) if there)

    def group_ids(self, clips: Index | None = None) -> NDArray[Any]:
        """Return the group of each clip, or the clip itself if it has no group; for some clips or all."""
        rows = range(len(self)) if clips is None else clips.tolist()
        return np.array([self.group[row] or f"#{row}" for row in rows], np.str_)


class Files(Sequence[Path]):
    """The files of a table, stored as written there; a path is created on access."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def full_names(self) -> list[str]:
        """Return all files as strings, without creating paths."""
        folder = os.fspath(self.folder)
        full = {name: os.path.join(folder, name) for name in dict.fromkeys(self.names)}  # noqa: PTH118 - millions of names
        return [full[name] for name in self.names]

    @overload
    def __getitem__(self, row: SupportsIndex) -> Path: ...

    @overload
    def __getitem__(self, row: slice) -> Files: ...

    def __getitem__(self, row: SupportsIndex | slice) -> Path | Files:
        return Files(self.folder, self.names[row]) if isinstance(row, slice) else self.folder / self.names[row]


def read_labels(path: Path | str, least: int = 2) -> Labels:
    """Read a labels CSV, or annotations of recordings: a Raven or Audacity file, or a folder of them.

    Parameters
    ----------
    least : int
        Smallest number of classes; 1 for tables that are used for testing only.

    Raises
    ------
    DataError
        When it cannot be read, lacks path or label, or names missing files. When it has too few classes, an
        unknown split, or an invalid time or part. When a label, fold, group or annotated class is a word for an empty
        cell or is written in two Unicode forms, or a label is empty although the other clips have one label each.
    """
    path = Path(path)
    root, table = label_columns(path, ("path", "label"), ("known", "split", "fold", "group", "start", "end"))
    texts, empty = table["label"], [""] * len(table["label"])
    if not texts:
        raise DataError(f"{path} has no rows; give one row for each clip under the header path,label")
    absent = missing_files(os.fspath(root), dict.fromkeys(table["path"]))
    if absent:
        first, rows = (
            next(name for name in table["path"] if name in absent),
            sum(name in absent for name in table["path"]),
        )
        raise DataError(
            f"{path} names {rows} files that do not exist, the first {first}; paths must be relative to {root}"
        )
    _refuse_empty_words(path, table)
    named = {text: _names(text) for text in dict.fromkeys(texts)}
    classes = sorted({name for names in named.values() for name in names})
    _refuse_unclear(path, texts, table.get("known", empty), named)
    if len(classes) < least:
        raise DataError(
            f"{path} has {len(classes)} class ({', '.join(classes)}); there must be at least"
            f" {'two' if least > 1 else 'one'}"
        )
    place = {name: number for number, name in enumerate(classes)}
    numbers = {text: tuple(sorted({place[name] for name in names})) for text, names in named.items()}
    target = ClassSets.from_lists([numbers[text] for text in texts], len(classes))
    split, fold, group = (
        [value.strip() for value in table.get(column, empty)] for column in ("split", "fold", "group")
    )
    for column, names in (("label", classes), ("fold", fold), ("group", group)):
        refuse_two_forms(names, f"{path}: {column}")
    start, end = (
        [
            read_seconds(text, f"{path}: {column} of row {row}") if text else None
            for row, text in enumerate(table.get(column, empty), start=2)
        ]
        for column in ("start", "end")
    )
    for number, (begin, last) in enumerate(zip(start, end, strict=True), start=2):
        if last is not None:
            refuse_reversed(begin, last, f"{path}: row {number}")
    refuse_two_labels(path, table["path"], (start, end), [numbers[text] for text in texts])
    known = known_classes(table.get("known", empty), classes, target)
    _refuse_only_positive(path, known, target)
    multilabel = known is not None or bool((target.sizes != 1).any())
    files = Files(root, table["path"])
    return Labels(files, classes, target, multilabel, _splits(split, path), fold, group, start, end, known)


def _names(cell: str) -> list[str]:
    """Return the names in a cell, which are joined by ``|``."""
    return [sys.intern(name) for part in cell.split("|") if (name := part.strip())]


def _refuse_empty_words(path: Path, table: Mapping[str, Sequence[str]]) -> None:
    """Refuse a word for an empty cell in the columns known, fold and group, where it would be a name."""
    for column in ("known", "fold", "group"):
        cells = table.get(column, ())
        for text in dict.fromkeys(cells):
            if any(name.lower() in EMPTY_WORDS for name in _names(text)):
                refuse_empty_word(text, f"{path}: {column} of row {cells.index(text) + 2}")


def _refuse_unclear(path: Path, texts: Sequence[str], known: Sequence[str], named: Mapping[str, Sequence[str]]) -> None:
    """Refuse ambiguous labels; ``named`` has the names in every text of the column label."""
    words = {text for text, names in named.items() if any(name.lower() in EMPTY_WORDS for name in names)}
    if found := [row for row, text in enumerate(texts, start=2) if text in words]:
        raise DataError(
            f"{path}: row {found[0]} has the label {texts[found[0] - 2]!r}, which programs write for an empty cell "
            f"({len(found)} rows); fill the cell, remove the row, or give the class another name"
        )
    empty = [
        row
        for row, (text, cell) in enumerate(zip(texts, known, strict=True), start=2)
        if not named[text] and not cell.strip()
    ]
    if empty and all(len(names) <= 1 for names in named.values()) and any(named.values()):
        raise DataError(
            f"{path}: row {empty[0]} has no label ({len(empty)} rows), and the others have one each; fill the cell or"
            " remove the row. For a clip that has none of several classes, list them in the column known"
        )


def _refuse_only_positive(path: Path, known: AnnotatedClasses | None, target: ClassSets) -> None:
    """Refuse annotated classes of which none is absent in any row."""
    if known is not None and np.array_equal(known.sizes, target.sizes):
        raise DataError(
            f"{path}: no class is annotated as absent in any row, because the column known lists only labels of its"
            " row; list the classes that are absent, too, or remove the column if each row has all its labels"
        )


def known_classes(cells: Sequence[str], classes: Sequence[str], target: ClassSets) -> AnnotatedClasses | None:
    """Return the annotated classes of each clip: those of the column ``known``, joined by ``|``, and its own labels.

    An empty cell means all classes, so a table without the column is completely annotated: None. Names that are not
    labels of the table are ignored: a part of OpenMIC may lack an instrument.
    """
    rows = np.flatnonzero([bool(cell) and bool(_names(cell)) for cell in cells])
    if not len(rows):
        return None
    place = {name: number for number, name in enumerate(classes)}
    numbers = {
        text: [place[name] for name in _names(text) if name in place] for text in {cells[row] for row in rows.tolist()}
    }
    lists: list[tuple[int, ...]] = [()] * len(cells)
    partial = np.zeros(len(cells), bool)
    for row in rows.tolist():
        own = target.numbers[target.bounds[row] : target.bounds[row + 1]].tolist()
        found = tuple(sorted({*numbers[cells[row]], *own}))
        if len(found) < len(classes):
            lists[row], partial[row] = found, True
    return AnnotatedClasses(partial, ClassSets.from_lists(lists, len(classes))) if partial.any() else None


def _splits(split: Sequence[str], path: Path) -> list[str]:
    """Return the split names in one spelling; all are filled or all are empty."""
    if any(split) and (unknown := sorted({name for name in split if name.lower() not in SPLITS})):
        raise DataError(
            f"{path} has the split {unknown[0]!r}; use train, valid and test in every row, or no split column"
        )
    return [SPLITS.get(name.lower(), "") for name in split]
