"""Detections as files: a CSV, a selection table of Raven, or label files of Audacity.

- csv: ``path,start,end,label,score``; paths are relative to the table, which is a labels CSV, or those of addresses. A
  table that will be uploaded has absolute paths.
- raven: one table for all recordings, tab-separated. ``Begin Time (s)`` counts through the recordings in their order,
  as Raven does when it opens them together; ``File Offset (s)`` is the start in the recording.
- audacity: one file for a recording, without scores; several recordings give a folder with one file each.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from unheard.addresses import address_of
from unheard.audio.standard_input import is_standard_input
from unheard.data.selections.formats import BEGIN, END, OFFSET
from unheard.data.selections.reading import seconds_text
from unheard.embedding.tables import absolute
from unheard.errors import ConfigError, shown
from unheard.files import atomic_write, replace_folder, write_table, write_text
from unheard.finetuning.spans.merging import Span
from unheard.outputs import refuse_other_kind
from unheard.remote.writing import is_working_place

SpanFormat: TypeAlias = Literal["csv", "raven", "audacity"]
SUFFIXES: dict[SpanFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "raven": (".txt", ".tsv"),
    "audacity": (".txt", ""),
}
"""Suffixes of the output of each format; an empty one: a folder."""

COLUMNS = ("path", "start", "end", "label", "score")
LOW, HIGH = "Low Freq (Hz)", "High Freq (Hz)"


@dataclass(frozen=True)
class Recording:
    """The detections of one recording.

    Parameters
    ----------
    path : str
        As it was given.
    seconds : float
        Its length, or the length that could be read.
    spans : tuple of Span
        In order of time.
    error : str
        Reason why it could not be read to its end; empty otherwise.
    """

    path: str
    seconds: float
    spans: tuple[Span, ...]
    error: str = ""


def format_of(out: Path, chosen: SpanFormat | None, recordings: int) -> SpanFormat:
    """Return the format of an output: the chosen one, or that of its suffix.

    Raises
    ------
    ConfigError
        When the suffix fits no format or not the chosen one, or several recordings are to be written to one label file
        of Audacity, or when there is a folder in the place of a file, or a file in the place of a folder.
    """
    if chosen is not None and chosen not in get_args(SpanFormat):
        raise ConfigError(f"the format must be csv, raven or audacity; got {chosen!r}")
    suffix = out.suffix.lower()
    kind = chosen or next((each for each, suffixes in SUFFIXES.items() if suffix in suffixes), None)
    if kind is None or suffix not in SUFFIXES[kind]:
        raise ConfigError(
            f"{out}{f' does not fit the format {chosen}' if chosen else ' has no known suffix'}: a table ends in .csv,"
            " a selection table of Raven in .txt or .tsv, a label file of Audacity in .txt with the format audacity,"
            " and a folder with label files of Audacity in no suffix"
        )
    if kind == "audacity" and suffix and recordings > 1:
        raise ConfigError(
            f"a label file of Audacity holds one recording, and there are {recordings}; give a folder without a suffix"
            f" instead of {out}, or use the format raven or csv"
        )
    refuse_other_kind(out, "file" if suffix else "folder")
    return kind


def write_spans(out: Path, kind: SpanFormat, recordings: Sequence[Recording], sample_rate: int) -> list[str]:
    """Write detections. Return the names of the files, relative to the folder of ``out``.

    Parameters
    ----------
    sample_rate : int
        Of the classifier in Hz; half of it is the upper frequency of the selections of Raven.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        rows = (_csv_row(span, out.parent) for recording in recordings for span in recording.spans)
        write_table(out, COLUMNS, rows)
    elif kind == "raven":
        _write_raven(out, recordings, sample_rate)
    elif out.suffix:
        write_text(out, "".join(map(_audacity_line, recordings[0].spans)))
    else:
        files = _label_files(recordings)

        def write(folder: Path) -> None:
            for name, recording in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("".join(map(_audacity_line, recording.spans)), encoding="utf-8")

        replace_folder(out, write)
        return [f"{out.name}/{name}" for name in files]
    return [out.name]


def _csv_row(span: Span, folder: Path) -> dict[str, str]:
    times = (seconds_text(span.start), seconds_text(span.end))
    path = span.path
    if address_of(path) or is_working_place(folder):
        path = path if is_standard_input(path) else absolute(path)
    elif not is_standard_input(path):
        path = Path(os.path.relpath(path, folder)).as_posix()
    return dict(zip(COLUMNS, (path, *times, span.label, f"{span.score:.6g}"), strict=True))


def _write_raven(out: Path, recordings: Iterable[Recording], sample_rate: int) -> None:
    columns = ("Selection", "View", "Channel", BEGIN, END, LOW, HIGH, "Begin Path", "Begin File", OFFSET)
    with atomic_write(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow((*columns, "Annotation", "Score"))
        number, before = 0, 0.0
        for recording in recordings:
            path = absolute(recording.path)
            for span in recording.spans:
                number += 1
                times = (seconds_text(before + span.start), seconds_text(before + span.end))
                place = (shown(path), shown(Path(path).name), seconds_text(span.start))
                band = ("0", f"{sample_rate / 2:g}")
                writer.writerow(
                    (number, "Spectrogram 1", 1, *times, *band, *place, shown(span.label), f"{span.score:.6g}")
                )
            before += recording.seconds


def _audacity_line(span: Span) -> str:
    return f"{seconds_text(span.start)}\t{seconds_text(span.end)}\t{shown(span.label)}\n"


def _label_files(recordings: Sequence[Recording]) -> dict[str, Recording]:
    """Return the recordings by the names of their label files; folders are kept where names occur twice."""
    paths = [absolute(recording.path) for recording in recordings]
    names = [Path(path).name for path in paths]
    if len(set(names)) < len(names):
        names = [os.path.relpath(path, os.path.commonpath(paths)) for path in paths]
    return {f"{name}.txt": recording for name, recording in zip(names, recordings, strict=True)}
