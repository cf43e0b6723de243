"""The two text formats of annotations.

- Raven: tab-separated with a header; ``Begin Time (s)``, ``End Time (s)``, and one column with the label. ``Begin
  Path`` or ``Begin File`` may name the recording, and ``File Offset (s)`` the start in it.
- Audacity: tab-separated without a header; start, end, label. Lines that begin with a backslash hold frequencies.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unheard.data.tables import open_text, read_seconds, refuse_reversed
from unheard.errors import DataError, warn_audio

Format = Literal["raven", "audacity"]
BEGIN, END, OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
LABEL_COLUMNS = ("Annotation", "Label", "Species", "Common Name", "Species Code", "Type", "Class")
"""Columns of a Raven table that may hold the label; the first one that exists is read."""


@dataclass(frozen=True)
class Annotation:
    """One annotated part.

    Parameters
    ----------
    recording : str
        Name of the recording as written in the table; empty if the table does not name it.
    start, end : float
        Seconds.
    label : str
    """

    recording: str
    start: float
    end: float
    label: str


def find_format(table: Path) -> Format | None:
    """Return the format of a text file by its first line; None if it is neither.

    Raises
    ------
    DataError
        When the file cannot be read.
    """
    lines = _lines(table)
    if lines and BEGIN in lines[0][1]:
        return "raven"
    rows = [cells for _, cells in lines if not cells[0].startswith("\\")]
    labels = [len(cells) > 2 and _is_number(cells[0]) and _is_number(cells[1]) for cells in rows]
    if any(labels) and not labels[0] and sum(labels) > len(labels) // 2:
        warn_audio(f"{table} is left out: it has labels of Audacity, but not in its first line; remove that line")
    first = rows[0] if rows else []
    return "audacity" if len(first) >= 2 and _is_number(first[0]) and _is_number(first[1]) else None


def read_annotations(table: Path, kind: Format, label_column: str | None = None) -> list[Annotation]:
    """Return the annotations of one file, each once.

    Parameters
    ----------
    label_column : str, optional
        Column of a Raven table that holds the label. Default: the first existing one of `LABEL_COLUMNS`.

    Raises
    ------
    DataError
        When a column is missing, a row has no label, or a time is invalid; names the line.
    """
    lines = _lines(table)
    if kind == "audacity" and label_column is not None:
        raise DataError(f"{table}: a label file of Audacity has no named columns; leave --label-column out")
    return list(dict.fromkeys(_raven(table, lines, label_column) if kind == "raven" else _audacity(table, lines)))


def _raven(table: Path, lines: list[tuple[int, list[str]]], label_column: str | None) -> list[Annotation]:
    header = lines[0][1] if lines else []
    if missing := [name for name in (BEGIN, END) if name not in header]:
        raise DataError(
            f"{table}: lacks the column {missing[0]!r}; a selection table of Raven has {BEGIN!r} and {END!r}, separated"
            f" by tabs; this file has {_quoted(header)}"
        )
    chosen = _label_column(table, header, label_column)
    rows = [(number, dict(zip(header, cells, strict=False))) for number, cells in lines[1:]]
    files = {_file(row) for _, row in rows}
    if len(files) > 1 and OFFSET not in header:
        raise DataError(
            f"{table}: names {len(files)} recordings, but lacks the column {OFFSET!r}, so the times in each are"
            " unknown; add that column in Raven (View, Configure, Measurements) and save the table again"
        )
    if len(files) > 1 and (blank := [number for number, row in rows if not row.get(OFFSET, "")]):
        raise DataError(f"{table}: line {blank[0]} lacks {OFFSET!r}, so its times in the recording are unknown")
    return [_raven_row(f"{table}: line {number}", row, chosen) for number, row in rows]


def _raven_row(where: str, row: dict[str, str], label_column: str) -> Annotation:
    start, end = _times(where, row.get(BEGIN, ""), row.get(END, ""))
    if row.get(OFFSET, ""):
        offset, _ = _times(where, row[OFFSET], None)
        start, end = offset, round(offset + end - start, 6)
    return Annotation(_file(row), start, end, _label(where, row.get(label_column, "")))


def _audacity(table: Path, lines: list[tuple[int, list[str]]]) -> list[Annotation]:
    found = []
    for number, cells in lines:
        if cells[0].startswith("\\"):
            continue
        where = f"{table}: line {number}"
        if len(cells) < 2:
            raise DataError(f"{where} is not a label of Audacity; expected start, end and label, separated by tabs")
        start, end = _times(where, cells[0], cells[1])
        found.append(Annotation("", start, end, _label(where, cells[2] if len(cells) > 2 else "")))
    return found


def _times(where: str, start: str, end: str | None) -> tuple[float, float]:
    """Return start and end in seconds; ``end`` None: only the start is read."""
    begin = read_seconds(start.replace(",", "."), f"{where}: the start")
    last = begin if end is None else read_seconds(end.replace(",", "."), f"{where}: the end")
    if begin is None or last is None:
        raise DataError(f"{where} lacks a time; give a start and an end in seconds")
    if end is not None and begin == last:
        raise DataError(f"{where} is a point at {begin:g} s; give it a start and an end, or remove the line")
    if end is not None:
        refuse_reversed(begin, last, where)
    return begin, last


def _label(where: str, text: str) -> str:
    if not text.strip():
        raise DataError(f"{where} has no label; give it one, or remove the line")
    return text.strip()


def _label_column(table: Path, header: Sequence[str], chosen: str | None) -> str:
    names = LABEL_COLUMNS if chosen is None else (chosen,)
    if found := next((name for name in names if name in header), None):
        return found
    wanted = f"has no column {chosen!r}" if chosen else f"has no column of labels ({', '.join(LABEL_COLUMNS)})"
    raise DataError(f"{table} {wanted}; choose one of its columns with --label-column: {_quoted(header)}")


def _file(row: dict[str, str]) -> str:
    """Return the name of the recording in a row of Raven; empty if there is none."""
    return (row.get("Begin Path", "") or row.get("Begin File", "")).strip()


def _lines(table: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, each with its number and its cells."""
    try:
        with open_text(table) as file:
            rows = enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1)
            return [(number, [cell.strip() for cell in cells]) for number, cells in rows if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as text ({error}); save it as UTF-8 text with tabs") from error


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "no columns"
