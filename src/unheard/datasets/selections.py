"""Import of selection tables of Raven and label files of Audacity as a labels CSV, with negatives between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from unheard.addresses import address_of, named
from unheard.audio.waveform import info
from unheard.data.manifest import from_table
from unheard.data.selections.formats import Annotation, Format
from unheard.data.selections.reading import Selections, read_selections, seconds_text
from unheard.errors import DataError
from unheard.files import write_table
from unheard.remote.listing import is_file
from unheard.remote.reading import copied_folder, source_of

BACKGROUND = "background"
"""Label of parts without an annotation, in a table with one label a row."""

SHORTEST_BACKGROUND = 0.1
"""Seconds: parts without an annotation are at least this long (our choice)."""

COLUMNS = ("path", "start", "end", "label", "group", "known")


@dataclass(frozen=True)
class SelectionReport:
    """Result of an import.

    Parameters
    ----------
    table : Path
    recordings, annotations, classes : int
        Numbers of recordings, of rows with a label, and of different labels.
    background : int
        Number of rows without an annotation.
    grouped : bool
        Whether the column ``group`` holds the recording.
    """

    table: Path
    recordings: int
    annotations: int
    classes: int
    background: int
    grouped: bool

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**vars(self), "table": named(self.table)}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        found = [
            f"{named(self.table)}: {self.annotations} annotations of {self.classes} classes in {self.recordings}"
            f" recordings, {self.background} background"
        ]
        if not self.grouped:
            found.append(
                "some class is in one recording only, so parts of one recording may be in training and test; annotate"
                " more recordings for an independent test"
            )
        return found


def import_selections(
    kind: Format, source: Path | str, out: Path | str, *, background: bool = False, label_column: str | None = None
) -> SelectionReport:
    """Write a labels CSV with the annotated parts of recordings.

    The column ``group`` is the recording, so that a split keeps its parts together; it is left out when some label is
    in one recording only.

    Parameters
    ----------
    source : path
        One file, or a folder; recordings are next to their tables, or named in the tables. A folder at an address is
        copied first, and for one file at an address, the folder that holds it.
    background : bool
        Also write parts between the annotations, as many as there are annotations and as long as their median, or
        as the longest gap if that is shorter. Their label is `BACKGROUND`. If some part has several labels, they have
        none, and ``known`` lists all classes.
    label_column : str, optional
        See `read_annotations`.

    Raises
    ------
    DataError
        As `read_selections`. When an annotation begins after the end of its recording, a label is `BACKGROUND` already,
        or no background is left between the annotations.
    AudioError
        When a recording cannot be read.

    Examples
    --------
    >>> import_selections("raven", "recordings/", "labels.csv", background=True).background  # doctest: +SKIP
    40
    """
    address, name = address_of(source), ""
    if address and is_file(address):
        address, _, name = address.rpartition("/")
    with copied_folder(address or source) as folder:
        return _import(folder / name, kind, Path(out), background, label_column)


def _import(source: Path, kind: Format, out: Path, background: bool, label_column: str | None) -> SelectionReport:
    selections = read_selections(source, kind, label_column)
    place = source_of(selections.folder)
    if address_of(place) and (outside := [path for path in selections.annotations if path.startswith("../")]):
        raise DataError(f"{place}: a table names a recording of this machine, {Path(outside[0]).name}; upload it there")
    lengths = {path: info(selections.folder / path).seconds for path in selections.annotations}
    _refuse_outside(selections, lengths)
    rows = selections.rows()
    classes = sorted({label for row in rows for label in row["label"].split("|")})
    if not classes:
        raise DataError(f"{source} has no annotations; give tables with at least one")
    negatives = _background_rows(selections, lengths, classes, rows) if background else []
    table = from_table([*rows, *negatives], selections.folder, out)
    columns = [name for name in COLUMNS if name == "label" or any(row.get(name) for row in table)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, columns, [{name: row.get(name, "") for name in columns} for row in table])
    recordings = len(selections.annotations)
    return SelectionReport(out, recordings, len(rows), len(classes), len(negatives), selections.grouped)


def _background_rows(
    selections: Selections, lengths: dict[str, float], classes: list[str], rows: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Return rows of parts that no annotation touches, evenly chosen from all of them."""
    if BACKGROUND in classes:
        raise DataError(f"a label is {BACKGROUND!r}, which names the parts without one; leave --background out")
    several = any("|" in row["label"] for row in rows)
    gaps = [
        (path, start, end)
        for path, found in selections.annotations.items()
        for start, end in _gaps(found, lengths[path])
    ]
    usual = median(annotation.end - annotation.start for each in selections.annotations.values() for annotation in each)
    size = min(usual, max((end - start for _, start, end in gaps), default=0.0))
    if size < SHORTEST_BACKGROUND:
        raise DataError(
            f"nothing of at least {SHORTEST_BACKGROUND:g} s between the annotations is free; leave --background out, or"
            " add recordings with a Raven table that has no rows"
        )
    parts = [
        (path, start + number * size) for path, start, end in gaps for number in range(int((end - start) / size + 1e-9))
    ]
    chosen = np.linspace(0, len(parts) - 1, min(len(rows), len(parts))).round().astype(int)
    return [
        {
            "path": path,
            "start": seconds_text(start),
            "end": seconds_text(start + size),
            "label": "" if several else BACKGROUND,
            "group": path if selections.grouped else "",
            "known": "|".join(classes) if several else "",
        }
        for path, start in (parts[number] for number in chosen)
    ]


def _gaps(annotations: list[Annotation], length: float) -> list[tuple[float, float]]:
    """Return start and end, in seconds, of the parts of a recording that no annotation touches."""
    found, free = [], 0.0
    for begin, end in [*((each.start, each.end) for each in annotations), (length, length)]:
        if begin > free:
            found.append((free, begin))
        free = max(free, end)
    return found


def _refuse_outside(selections: Selections, lengths: dict[str, float]) -> None:
    """Refuse annotations after the end of their recording: the table is probably that of another one."""
    for path, found in selections.annotations.items():
        if late := [each for each in found if each.start >= lengths[path]]:
            raise DataError(
                f"{path} lasts {lengths[path]:g} s, but its table has {late[0].label!r} at {late[0].start:g} s; give"
                " the table of this recording"
            )
