"""Parts of recordings as rows of a table: windows of one length, or the rows of a table of segments.

    file -> wav at the rate of the model, in blocks -> windows of S seconds every H seconds -> one vector for each

A window is embedded as a sound of its own, so its vector is that of ``model.embed`` for these samples. The last window
of a file is shorter; its vector is the mean over its real frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from unheard.audio.archives.members import is_sound_file
from unheard.audio.waveform import read, stream
from unheard.data.selections.reading import label_columns
from unheard.data.tables import ends_before, read_seconds, refuse_reversed
from unheard.embedding.embedding_model import PENDING, EmbeddingModel
from unheard.embedding.job import Options, Sound
from unheard.errors import AudioError, ConfigError, DataError, shown, warn_audio
from unheard.read_ahead import WAITING, in_background, read_ahead

SHORTEST = 0.01
"""Seconds: windows and hops are at least this long, and a shorter rest of a file is no window (our choice)."""

GROUP_SECONDS = 600.0
"""Seconds of audio that are held at once, at most one window more (our choice)."""

Ended = Callable[[str, float], object]
"""Function that is called with the path of a file that was read to its end, and its seconds."""

Skip = Callable[[str, AudioError], None]
"""Function that is called with the path of a file that cannot be read, and the error."""


@dataclass(frozen=True)
class Segment:
    """A part of a file.

    Parameters
    ----------
    path : str
    start, end : float
        Seconds in the file.
    sound : Sound
        Its samples at the rate of the model, with that rate; or its path for a whole file.
    """

    path: str
    start: float
    end: float
    sound: Sound


@dataclass(frozen=True)
class SegmentRow:
    """A row of a table of segments; None: the start or the end of the file."""

    path: str
    start: float | None
    end: float | None


def check_window(window: float, hop: float | None) -> float:
    """Return the hop of windows in seconds; the default is the window.

    Raises
    ------
    ConfigError
        When one of them is not a number of at least `SHORTEST` seconds.
    """
    for name, value in (("window", window), ("hop", window if hop is None else hop)):
        if not (math.isfinite(value) and value >= SHORTEST):
            raise ConfigError(f"{name} must be at least {SHORTEST:g} seconds; got {value:g}")
    return window if hop is None else hop


def cut_file(
    path: str, sample_rate: int, window: float, hop: float, after: float = -1.0, ended: Ended | None = None
) -> Iterator[Segment]:
    """Yield the windows of a file in order of time, in memory that does not grow with its length; see `cut_blocks`.

    Raises
    ------
    AudioError
        When the file cannot be read.
    """
    yield from cut_blocks(stream(path, sample_rate), path, (sample_rate, window, hop), after, ended)


def cut_blocks(
    blocks: Iterable[Float32[np.ndarray, " _"]],
    path: str,
    cut: tuple[int, float, float],
    after: float = -1.0,
    ended: Ended | None = None,
) -> Iterator[Segment]:
    """Yield the windows of a signal in order of time.

    Windows begin every ``hop`` seconds until one reaches the end of the file. A rest of less than `SHORTEST` that no
    window holds is left out.

    Parameters
    ----------
    blocks : iterable of Float32[ndarray, "_"]
        Consecutive pieces of the signal.
    path : str
        Its name.
    cut : int, float and float
        Sample rate in Hz, and seconds of a window and of the hop.
    after : float
        Windows that begin up to here are left out.
    ended : callable, optional
        Called with the path and the seconds of the whole signal, before its last window.
    """
    sample_rate, window, hop = cut
    size, held, begin, index = round(window * sample_rate), np.zeros(0, np.float32), 0, 0
    first = covered = 0  # start of the next window, and end of the latest one, in samples

    def segment(first: int, last: int) -> Iterator[Segment]:
        start = round(index * hop, 6)
        if start > after:
            whole = last - first == size
            end = round(start + window if whole else last / sample_rate, 6)
            yield Segment(path, start, end, (held[first - begin : last - begin].copy(), sample_rate))

    for block in blocks:
        held = np.concatenate([held, block])
        while (first := round(index * hop * sample_rate)) + size <= begin + len(held):
            yield from segment(first, first + size)
            index, covered = index + 1, first + size
        drop = min(len(held), max(0, first - begin))
        held, begin = held[drop:], begin + drop
    total = begin + len(held)
    if ended is not None:
        ended(path, total / sample_rate)
    if index == 0 or total - max(first, covered) >= SHORTEST * sample_rate:
        yield from segment(first, total)


def cut_files(
    files: Iterable[str],
    sample_rate: int,
    window: float,
    hop: float,
    after: Callable[[str], float] = lambda file: -1.0,
    readers: int = 0,
    ended: Ended | None = None,
) -> Iterator[tuple[str, Iterable[Segment]]]:
    """Yield files in order, each with its windows as in `cut_file`; ``readers`` threads read files ahead.

    How many windows wait is the result of `windows_ahead`. An error of a file is raised where its
    windows are taken.
    """
    waiting = windows_ahead(window, readers + 1)
    return read_ahead(
        files, lambda file: cut_file(file, sample_rate, window, hop, after(file), ended), readers, waiting
    )


def windows_ahead(window: float, queues: int = 1) -> int:
    """Return how many windows may wait in each of some queues, so that they last at most `GROUP_SECONDS` together, or
    one window each.
    """
    return max(1, min(WAITING, int(GROUP_SECONDS / (window * queues))))


def read_segments(table: str | Path) -> list[SegmentRow]:
    """Return the different rows of a CSV with the columns path, start and end, or of annotations of recordings.

    Paths of a CSV are relative to it; annotations are a Raven or Audacity file, or a folder of them.

    An empty start or end, or a missing column, is that of the file.

    Raises
    ------
    DataError
        When the table cannot be read, has no rows, names missing files, or has an invalid time.
    """
    place = Path(table)
    folder, columns = label_columns(place, ("path",), ("start", "end"))
    if not columns["path"]:
        raise DataError(f"{place} has no rows; give one row for each segment under the header path,start,end")
    if absent := [name for name in dict.fromkeys(columns["path"]) if not is_sound_file(folder / name)]:
        raise DataError(
            f"{place} names {len(absent)} files that do not exist, the first {absent[0]}; paths must be relative to"
            f" {folder}"
        )
    empty = [""] * len(columns["path"])
    rows: dict[SegmentRow, None] = {}
    cells = zip(columns["path"], columns.get("start", empty), columns.get("end", empty), strict=True)
    for number, (name, first, last) in enumerate(cells, start=2):
        start = read_seconds(first, f"{place}: start of row {number}")
        end = read_seconds(last, f"{place}: end of row {number}")
        refuse_reversed(start, end, f"{place}: row {number}")
        rows[SegmentRow(str(folder / name), start, end)] = None
    return list(rows)


def load_segment(row: SegmentRow, sample_rate: int) -> Segment:
    """Read one segment.

    Raises
    ------
    AudioError
        When it cannot be read, or begins after the end of the file.

    Warns
    -----
    AudioWarning
        When it ends after the end of the file. The row keeps the end of the table.
    """
    start = row.start or 0.0
    wav, _ = read(row.path, sample_rate, start=start, seconds=None if row.end is None else row.end - start)
    end = round(start + len(wav) / sample_rate, 6)
    if ends_before(end, row.end):
        text = f"a segment ends at {row.end:g} s, but the file lasts {end:.3f} s; the existing part is used"
        warn_audio(f"{shown(row.path)}: {text}")
    return Segment(row.path, start, end if row.end is None else row.end, (wav, sample_rate))


def embed_segments(
    model: EmbeddingModel, segments: Iterable[Segment], options: Options, skip: Skip, waiting: int = WAITING
) -> Iterator[tuple[Segment, np.ndarray]]:
    """Yield segments in their order, each with its vector (D',); they are embedded in batches.

    ``skip`` is called for a segment whose vector is not finite. At most ``waiting`` segments are read ahead.
    """
    plain = replace(options, frames=False, window=None, hop=None)
    for group in _groups(in_background(segments, model.readers, waiting), PENDING * model.batch):
        owner = {id(segment.sound): segment for segment in group}

        def unusable(sound: Sound, error: AudioError, owner: dict[int, Segment] = owner) -> None:
            segment = owner[id(sound)]
            skip(segment.path, AudioError(f"{segment.start:g} to {segment.end:g} s: {error}"))

        for sound, embedding in model.embed_many([segment.sound for segment in group], plain, unusable):
            yield owner[id(sound)], embedding.scene


def _groups(segments: Iterable[Segment], most: int) -> Iterator[list[Segment]]:
    """Yield consecutive segments together, at most ``most`` of them, and as many as may be in memory."""
    group: list[Segment] = []
    seconds = 0.0
    for segment in segments:
        group.append(segment)
        seconds += segment.end - segment.start
        if len(group) >= most or seconds >= GROUP_SECONDS:
            yield group
            group, seconds = [], 0.0
    if group:
        yield group
