"""Columns of a labelled table from annotations: one file, or a folder with many, next to their recordings."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from unheard.audio.suffixes import AUDIO_SUFFIXES, AV_SUFFIXES
from unheard.data.selections.formats import Annotation, Format, find_format, read_annotations
from unheard.data.tables import read_columns
from unheard.errors import DataError

SUFFIXES = frozenset({".txt", ".tsv"})
"""Suffixes of files with annotations."""

FORMATS = "a selection table of Raven or a label file of Audacity (.txt)"


@dataclass(frozen=True)
class Selections:
    """The annotations of several recordings.

    Parameters
    ----------
    folder : Path
        Paths are relative to it.
    annotations : dict of str to list of Annotation
        Those of each recording by its path, in order of time. A recording whose table has no rows has an empty list.
    """

    folder: Path
    annotations: dict[str, list[Annotation]]

    @property
    def grouped(self) -> bool:
        """Return whether every label is in at least two recordings, so that recordings can be groups of a split."""
        where: dict[str, set[str]] = defaultdict(set)
        for path, found in self.annotations.items():
            for annotation in found:
                where[annotation.label].add(path)
        return bool(where) and all(len(paths) > 1 for paths in where.values())

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of a labels CSV; annotations with equal times are one row whose labels are joined by
        ``|``.
        """
        grouped, rows = self.grouped, []
        for path, found in self.annotations.items():
            labels: dict[tuple[float, float], list[str]] = defaultdict(list)
            for annotation in found:
                labels[annotation.start, annotation.end].append(annotation.label)
            rows += [
                {
                    "path": path,
                    "start": seconds_text(start),
                    "end": seconds_text(end),
                    "label": "|".join(dict.fromkeys(names)),
                    "group": path if grouped else "",
                }
                for (start, end), names in labels.items()
            ]
        return rows


def seconds_text(seconds: float) -> str:
    """Return a time as written in a table, to the microsecond."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def is_selections(path: Path) -> bool:
    """Return whether a path is a folder, or a text file in a format of annotations, rather than a labels CSV.

    A labels CSV may have the suffix .txt or .tsv, too.
    """
    if path.is_dir() or path.suffix.lower() not in SUFFIXES or not path.is_file():
        return path.is_dir()
    return find_format(path) is not None


def label_columns(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[Path, dict[str, list[str]]]:
    """Return the columns of a CSV or of annotations, and the folder that the column ``path`` is relative to.

    Raises
    ------
    DataError
        As `read_columns` and `read_selections`.
    """
    if not is_selections(path):
        return path.parent, read_columns(path, required, optional)
    selections = read_selections(path)
    rows = selections.rows()
    names = ("path", "start", "end", "label", "group")
    return selections.folder, {name: [row[name] for row in rows] for name in names if name in required + optional}


def read_selections(source: Path, kind: Format | None = None, label_column: str | None = None) -> Selections:
    """Read one file with annotations, or all of a folder.

    Parameters
    ----------
    kind : {"raven", "audacity"}, optional
        Only files of this format are read. Default: both.

    Raises
    ------
    DataError
        When there are none, one cannot be used, or its recording is not found.
    """
    if not source.exists():
        raise DataError(
            f"{source}: no such file or folder; give {FORMATS}, or a folder with some next to the recordings"
        )
    folder = source if source.is_dir() else source.parent
    tables = _tables(source, kind)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES | AV_SUFFIXES):
        by_name[file.name].append(file)
    found: dict[str, list[Annotation]] = {}
    for table, format_ in tables:
        annotations = read_annotations(table, format_, label_column)
        if not annotations:
            found.setdefault(_relative(_recording_of(table), folder), [])
        for annotation in annotations:
            recording = _named(table, annotation.recording, by_name) if annotation.recording else _recording_of(table)
            found.setdefault(_relative(recording, folder), []).append(annotation)
    return Selections(folder, {path: sorted(set(each), key=_time) for path, each in sorted(found.items())})


def _time(annotation: Annotation) -> tuple[float, float, str]:
    return annotation.start, annotation.end, annotation.label


def _tables(source: Path, kind: Format | None) -> list[tuple[Path, Format]]:
    """Return the files with annotations and their formats; other text files in a folder are left out."""
    if source.is_file():
        format_ = find_format(source)
        if format_ is None or kind not in (None, format_):
            wanted = {"raven": "a selection table of Raven", "audacity": "a label file of Audacity"}
            raise DataError(f"{source} is not {wanted[kind] if kind else FORMATS}; see unheard data import --help")
        return [(source, format_)]
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    formats = [(path, find_format(path)) for path in files]
    tables = [(path, each) for path, each in formats if each is not None and kind in (None, each)]
    if not tables:
        raise DataError(
            f"{source} holds no selection tables of Raven or label files of Audacity (.txt); put them next"
            " to the recordings"
        )
    return tables


def _recording_of(table: Path) -> Path:
    """Return the recording whose name begins the name of the table.

    ``rec.Table.1.selections.txt``, ``rec.selections.txt``, ``rec.wav.txt``, ``rec_labels.txt`` and ``rec.txt`` belong
    to ``rec.wav``; the longest name wins.
    """
    name = table.name.lower()
    audio = [path for path in table.parent.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES | AV_SUFFIXES]
    fitting = [path for path in audio if name.startswith((f"{path.stem.lower()}.", f"{path.stem.lower()}_labels."))]
    longest = max((len(path.stem) for path in fitting), default=0)
    best = sorted(path for path in fitting if len(path.stem) == longest)
    if exact := [path for path in best if name.startswith(f"{path.name.lower()}.")]:
        best = exact
    if len(best) != 1:
        problem = f"{best[0].name} and {best[1].name} both fit" if best else "none fits"
        raise DataError(
            f"{table}: no recording is known for it: {problem}; name the table after its recording, such as rec.txt"
            " next to rec.wav"
        )
    return best[0]


def _named(table: Path, name: str, by_name: dict[str, list[Path]]) -> Path:
    """Return the recording that a table of Raven names: at its absolute path, next to the table, below the
    folder, or, last, in the working directory.
    """
    if Path(name).is_absolute() and Path(name).is_file():
        return Path(name)
    base = PureWindowsPath(name).name  # splits at both kinds of slash
    if (by_table := table.parent / base).is_file():
        return by_table
    fitting = by_name.get(base, [])
    if not fitting and Path(name).is_file():
        return Path(name)
    if len(fitting) != 1:
        problem = "is in several folders" if fitting else "does not exist"
        raise DataError(f"{table}: the recording {base} {problem}; put the table next to its recording")
    return fitting[0]


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
