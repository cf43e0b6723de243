"""What a job embeds: the files of folders, the segments that a table lacks, and complete options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unheard.addresses import address_of, named
from unheard.audio.archives.members import is_sound_file
from unheard.audio.folders import find_each_sound
from unheard.audio.standard_input import is_standard_input
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import identity
from unheard.embedding.job import Options
from unheard.embedding.segments import SegmentRow, check_window
from unheard.embedding.tables import absolute
from unheard.errors import ConfigError, DataError


def expand(sources: Iterable[str | Path]) -> list[str]:
    """Return the sounds of the given files, archives and folders, each once, however its path is written.

    Files of a folder or an archive with other suffixes are ignored; a file given by path is not. The standard input,
    ``-`` or ``-@RATE``, is kept as it is.

    Raises
    ------
    DataError
        When a path does not exist, or a folder or an archive holds no audio.
    """
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if is_standard_input(source):
            files.append(str(source))
            continue
        if not address_of(path) and not path.exists() and not is_sound_file(path):
            raise DataError(f"there is no file or folder {path}; correct the path")
        files += map(named, find_each_sound([path]))
    once: dict[str, str] = {}
    for file in files:
        once.setdefault(absolute(file), file)
    return list(once.values())


def rows_left(rows: Sequence[SegmentRow], stored: Iterable[tuple[str, float, float]]) -> list[SegmentRow]:
    """Return the segments that a table lacks; ``stored`` are the absolute path, start and end of its rows.

    Each stored row is that of one segment. A segment without an end has a row of its start that is of no other segment.
    """
    places = [(absolute(row.path), row.start or 0.0, row.end) for row in rows]
    there: Counter[tuple[str, float, float | None]] = Counter(stored)
    found: list[bool] = []
    for place in places:
        found.append(place[2] is not None and there[place] > 0)
        there[place] -= found[-1]
    to_end = Counter[tuple[str, float]]()
    for (path, start, _), count in there.items():
        to_end[path, start] += count
    left = []
    for row, (path, start, end), same in zip(rows, places, found, strict=True):
        if end is None and to_end[path, start] > 0:
            to_end[path, start] -= 1
        elif not same:
            left.append(row)
    return left


def checked_options(options: Options, segments: bool) -> Options:
    """Return the options of a table, complete: with the hop of windows, and with frames for pool none.

    Raises
    ------
    ConfigError
        When options exclude each other.
    """
    if segments:
        if options.hop is not None or options.window is not None:
            raise ConfigError("the rows of a table of segments have their own lengths; leave window and hop out")
        return _plain_rows(options, "segments")
    if options.window is not None:
        hop = check_window(options.window, options.hop)
        return replace(_plain_rows(options, "windows"), frames=False, hop=hop)
    return replace(options, frames=True) if options.pool == "none" else options


def table_identity(model: EmbeddingModel, options: Options, segments: bool) -> dict[str, Any]:
    """Return the identity of a table with checked options."""
    return {**identity(model, options), **({"segments": True} if segments else {})}


def _plain_rows(options: Options, kind: str) -> Options:
    """Return the options of a table with one vector a row; refuse those that give several."""
    if options.frames or options.pool == "none":
        raise ConfigError(f"a table of {kind} has one vector a row; leave frames and pool none out")
    return options
