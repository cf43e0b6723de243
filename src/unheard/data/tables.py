"""Tables as CSV files: rows, columns, times in seconds, and words that programs write for an empty cell."""

from __future__ import annotations

import csv
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import DataError, RemoteError, shown
from unheard.remote.reading import local_path

EMPTY_WORDS = frozenset({"nan", "null", "n/a", "#n/a", "<na>", "nat"})
"""Words that programs write for an empty cell, in lower case."""

END_SLACK = 0.05
"""Seconds by which a row may end after its file without a warning (our choice)."""


def read_seconds(text: str, where: str) -> float | None:
    """Read a time in seconds; None for an empty cell.

    Raises
    ------
    DataError
        When the text is not a number of at least 0; the message names the cell as ``where``.
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{where} is {text.strip()!r}; give a number of seconds of at least 0")
    return value


def refuse_reversed(start: float | None, end: float | None, where: str) -> None:
    """Refuse a part that does not end after its start.

    Raises
    ------
    DataError
        With both times in the message.
    """
    if end is not None and end <= (start or 0.0):
        raise DataError(
            f"{where} ends at {end:g} s, which is not after its start at {start or 0.0:g} s; swap or correct the times"
        )


def ends_before(last: float, end: float | None) -> bool:
    """Return whether a sound that ends at ``last`` ends before the end of its row, by more than `END_SLACK` seconds."""
    return end is not None and end > last + END_SLACK


def refuse_empty_word(text: str, where: str) -> None:
    """Refuse a cell with a word that programs write for an empty one.

    Raises
    ------
    DataError
        When one of the names in the cell, joined by ``|``, is such a word.
    """
    if any(name.strip().lower() in EMPTY_WORDS for name in text.split("|")):
        raise DataError(
            f"{where} is {text!r}, which programs write for an empty cell; empty the cell, or give another name"
        )


def refuse_two_labels(
    path: Path, files: Sequence[str], times: Sequence[Sequence[float | None]], labels: Sequence[tuple[int, ...]]
) -> None:
    """Refuse a clip that is in several rows with different labels, as where each label has a row of its own.

    Each row would count as a clip that lacks the labels of the others.

    Parameters
    ----------
    path : Path
        Table, for the message.
    files, labels : sequence
        File, and numbers of the classes, of each row.
    times : sequence of sequences
        Starts and ends; None for those of the file.

    Raises
    ------
    DataError
        With the first such clip.
    """
    clip = _numbered(files)
    for column in times:
        clip = _pairs(clip, _numbered(column))
    labelled = _pairs(clip, _numbered(labels))
    clips = clip[np.unique(labelled, return_index=True)[1]]  # once for each of its different labels
    several = np.flatnonzero(np.bincount(clips) > 1)
    if len(several):
        same = np.flatnonzero(np.isin(clip, several))
        first = same[clip[same] == clip[same[0]]]
        raise DataError(
            f"{path}: {shown(files[first[0]])} is in the rows {', '.join(str(row + 2) for row in first[:3])} with"
            f" different labels ({len(several)} such clips); write all labels of a clip in one row, joined by"
            " |, or correct them"
        )


def _numbered(values: Sequence[Any]) -> NDArray[np.int64]:
    """Return the number of each value among the different ones."""
    place: dict[Any, int] = {}
    return np.fromiter((place.setdefault(value, len(place)) for value in values), np.int64, len(values))


def _pairs(one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each pair of numbers among the different ones."""
    return np.unique(one * (two.max(initial=0) + 1) + two, return_inverse=True)[1].reshape(-1)


def refuse_two_forms(names: Iterable[str], where: str) -> None:
    """Refuse names that look equal and differ in their Unicode form, such as an accent as a letter of its own.

    macOS writes file names in one form and most programs text in the other.

    Raises
    ------
    DataError
        With the first such name.
    """
    forms: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if forms.setdefault(unicodedata.normalize("NFC", name), name) != name:
            raise DataError(f"{where} {name!r} is written in two Unicode forms; write it in one, such as NFC")


def read_csv(path: str | Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV with a header line; a missing value is empty.

    Raises
    ------
    DataError
        When the file is missing, not UTF-8 text, lacks a column of ``required``, or has a row with too many values.
        When a column has the name of one of ``required`` or ``optional`` in capitals.
    """
    records = _records(path, required, optional)
    columns = next(records)
    return [{name: value for name, value in zip(columns, record, strict=True) if name} for record in records]


def read_columns(path: str | Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return the columns ``required`` of a CSV, and the existing ones of ``optional``, in less memory than `read_csv`.

    Raises
    ------
    DataError
        As `read_csv`.
    """
    records = _records(path, required, optional)
    positions = {name: number for number, name in enumerate(next(records)) if name in required + optional}
    found: dict[str, list[str]] = {name: [] for name in positions}
    once: dict[str, str] = {}  # equal values are stored once
    wanted = [(found[name].append, number) for name, number in positions.items()]
    for record in records:
        for append, number in wanted:
            append(once.setdefault(record[number], record[number]))
    return found


def _records(path: str | Path, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield the names of the columns, then the values of every row that is not empty, one for each column."""
    try:
        with open_text(Path(path)) as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
                raise DataError(f"{path}: has the column {twice[0]!r} twice; give each column a name of its own")
            _refuse_capitals(path, columns, required + optional)
            if missing := [name for name in required if name not in columns]:
                raise DataError(_lacks(path, columns, missing, required))
            yield columns
            yield from _checked_records(path, columns, reader)
    except RemoteError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give a CSV with the columns {', '.join(required)}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV ({error}); give a UTF-8 table with a header line") from error


def _refuse_capitals(path: str | Path, columns: list[str], read: tuple[str, ...]) -> None:
    """Refuse a column such as ``Split``, which would not be read."""
    for name in columns:
        if name not in read and name.lower() in read and name.lower() not in columns:
            raise DataError(f"{path}: has the column {name!r}, which is read only as {name.lower()!r}; rename it")


def _checked_records(path: str | Path, columns: list[str], reader: Iterable[list[str]]) -> Iterator[list[str]]:
    width, nameless = len(columns), [number for number, name in enumerate(columns) if not name]
    number = 1
    for record in reader:
        if not any(record):  # spreadsheets leave rows with commas only
            continue
        number += 1
        if len(record) != width or nameless:
            record += [""] * (width - len(record))
            if any(record[width:]) or any(record[at] for at in nameless):
                raise DataError(
                    f"{path}: row {number} has more values than the header has columns; quote values that hold a comma"
                )
        yield record[:width]


def _lacks(path: str | Path, columns: list[str], missing: list[str], required: tuple[str, ...]) -> str:
    """Return the error message for a table that lacks columns."""
    for letter, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and letter in columns[0]:
            return (
                f"{path}: its values are separated by {name}; save it as a CSV with commas, as the header path,label"
                " has them"
            )
    found = ", ".join(columns) or "none"
    return f"{path}: lacks the column {', '.join(missing)}; it has {found}, and needs {', '.join(required)}"


def open_text(path: Path) -> IO[str]:
    """Open a table, here or at an address: UTF-8, or UTF-16 with a byte order mark.

    Raises
    ------
    DataError
        When the file is a workbook or another kind of file.
    """
    local = local_path(path)
    with local.open("rb") as file:
        begin = file.read(4096)
    if begin[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{shown(path)}: is a workbook, not a CSV; save the sheet as CSV (UTF-8) and give that file")
    wide = begin[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not wide and b"\0" in begin:
        raise DataError(f"{shown(path)}: is a binary file, not a table; give a CSV with a header line")
    return local.open(encoding="utf-16" if wide else "utf-8-sig", newline="")
