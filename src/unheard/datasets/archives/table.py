"""Write the label table of sounds inside archives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unheard.addresses import named
from unheard.audio.archives.archive import Archive
from unheard.audio.archives.hdf5 import SUFFIXES as HDF5
from unheard.audio.archives.members import open_archive
from unheard.audio.folders import find_archives, find_sounds
from unheard.data.label_table import SPLITS
from unheard.data.manifest import from_table
from unheard.datasets.archives.cells import CAPTIONS, LABELS, Names, caption_cell, label_cell
from unheard.datasets.archives.hdf5_targets import TARGET, read_targets
from unheard.datasets.archives.hf_parquet import read_rows
from unheard.datasets.archives.webdataset import read_samples
from unheard.errors import DataError, UnheardError, require, shown
from unheard.files import write_table

Kind = Literal["webdataset", "hf-parquet", "hdf5"]
SUFFIXES: dict[Kind, frozenset[str]] = {
    "webdataset": frozenset({".tar"}),
    "hf-parquet": frozenset({".parquet"}),
    "hdf5": HDF5,
}
COLUMNS = ("path", "label", "caption", "split")

_SPLIT = re.compile(
    rf"(?:(?:un)?balanced_)?({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE
)
"""Begin of the name of an archive of one split; AudioSet's training clips are called balanced and unbalanced."""


@dataclass(frozen=True)
class ArchiveImport:
    """Result of an import.

    Parameters
    ----------
    table : Path
    clips : int
        Rows of the table.
    labelled, captioned : int
        Rows with a label, and with a caption.
    classes : int
    splits : dict of str to int
        Rows of each split.
    left_out : tuple of (path, reason)
        Sounds without annotations, and archives that cannot be read completely.
    """

    table: Path
    clips: int
    labelled: int
    captioned: int
    classes: int
    splits: dict[str, int]
    left_out: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        left_out = [{"path": path, "reason": reason} for path, reason in self.left_out]
        return {**vars(self), "table": named(self.table), "left_out": left_out}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        splits = "".join(f"; {split} {count}" for split, count in self.splits.items())
        total = f"{named(self.table)}: {self.clips} clips, {self.labelled} with labels of {self.classes} classes"
        return [
            *(f"left out {path}: {reason}" for path, reason in self.left_out),
            f"{total}, {self.captioned} with captions{splits}; {len(self.left_out)} left out",
        ]


def import_archives(
    kind: Kind,
    sources: Sequence[Path],
    out: Path,
    label_column: str | None = None,
    classes: Sequence[str] | None = None,
) -> ArchiveImport:
    """Write a CSV with the path, label and caption of the sounds in archives, for every verb that reads tables.

    If the names of all archives begin with a split, and there are several, the table has the column ``split``.

    Parameters
    ----------
    kind : {"webdataset", "hf-parquet", "hdf5"}
    sources : sequence of Path
        Archives, or folders that are searched for them, also at addresses. An archive that is in several of
        them is read once.
    label_column : str, optional
        Field with the label. Default: label and labels; target of an HDF5 file.
    classes : sequence of str, optional
        Names of the classes of HDF5 files, in their order. Default: class-000, class-001, ...

    Raises
    ------
    DataError
        When there are no archives, none of their sounds has a label or a caption, an annotation cannot be used, or the
        table cannot be written.
    """
    if kind == "hdf5":
        require("h5py", "hdf5")
    archives = {path.resolve(): path for source in sources for path in find_archives(source, SUFFIXES[kind])}
    fields = (label_column,) if label_column is not None else (TARGET,) if kind == "hdf5" else LABELS
    rows: list[dict[str, str]] = []
    left_out: list[tuple[str, str]] = []
    for path in archives.values():
        archive = open_archive(path)
        split = found[1].lower() if (found := _SPLIT.match(path.name)) else ""
        own = []
        for name, row in _rows(kind, archive, fields, classes):
            if isinstance(row, str):
                left_out.append((shown(path / name), row))
            else:
                own.append({**row, "path": f"{path.name}/{name}", "split": SPLITS.get(split, "")})
        rows += from_table(own, path.parent, out)
        if archive.problem:
            left_out.append((shown(path), archive.problem))
    if not rows:
        first = f"; the first of {len(left_out)}: {': '.join(left_out[0])}" if left_out else ""
        raise DataError(f"{', '.join(map(named, sources))}: no sound has a label or a caption{first}")
    return _write(out, rows, left_out)


def _rows(
    kind: Kind, archive: Archive, fields: Sequence[str], classes: Sequence[str] | None
) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Yield the sounds of an archive, each with its label and caption, or with the reason why it has none."""
    sounds = [path.relative_to(archive.path).as_posix() for path in find_sounds(archive.path) if path != archive.path]
    names: Names = {}
    records: Iterable[dict[str, Any] | UnheardError] = ()
    if kind == "webdataset":
        records = read_samples(archive, sounds)
    elif sounds:
        names, records = (
            read_targets(archive.path, fields[0], len(sounds), classes)
            if kind == "hdf5"
            else read_rows(archive.path, (*fields, *CAPTIONS))
        )
    for name, record in zip(sounds, records, strict=True):
        try:
            if isinstance(record, UnheardError):
                raise record
            label, caption = label_cell(record, fields, names), caption_cell({**record, **dict.fromkeys(fields)})
        except UnheardError as error:
            yield name, str(error)
            continue
        annotated = label is not None or caption
        yield name, {"label": label or "", "caption": caption} if annotated else f"no {', '.join((*fields, *CAPTIONS))}"


def _write(out: Path, rows: list[dict[str, str]], left_out: list[tuple[str, str]]) -> ArchiveImport:
    splits = Counter(row["split"] for row in rows)
    used = [
        column
        for column in COLUMNS
        if column == "path"
        or (column == "split" and len(splits) > 1 and "" not in splits)
        or (column != "split" and any(row[column] for row in rows))
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_table(out, used, [{column: row[column] for column in used} for row in rows])
    except OSError as error:
        raise DataError(f"cannot write the table {out}: {error}; choose another -o") from error
    classes = {name for row in rows for name in row["label"].split("|") if name}
    return ArchiveImport(
        out,
        len(rows),
        sum(bool(row["label"]) for row in rows),
        sum(bool(row["caption"]) for row in rows),
        len(classes),
        dict(sorted(splits.items())) if "split" in used else {},
        tuple(left_out),
    )
