"""Progress of embedding files: minutes of audio for a few long recordings, else files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from unheard.audio.decode import open_sound
from unheard.embedding.tables import TableWriter
from unheard.errors import AudioError
from unheard.progress import ProgressCounter, Track, silent

FEW = 100
"""Most files whose headers are read for their duration (our choice)."""
IN_MINUTES = "embedding, minutes of audio"
"""Description of a progress with this unit."""


class AudioProgress(ProgressCounter):
    """Shows what is embedded; a context manager.

    If there are few files, and they last more than a minute in the mean, the unit is a minute of audio. Their headers
    are read for this, unless the progress is `silent`, as in the workers of a job. Audio that waits for its batch
    counts, what readers have read ahead does not.

    Parameters
    ----------
    files : sequence of str
    track : Track
    table : TableWriter
        Records each file whose header is read, because a decoder may make the process die.
    """

    def __init__(self, files: Sequence[str], track: Track, table: TableWriter) -> None:
        self._file, self._reached = "", 0.0
        minutes = 0 if track is silent else math.ceil(_minutes(files, table) or 0)
        self.by_minutes = minutes > max(1, len(files))
        if self.by_minutes:
            super().__init__(track, minutes, IN_MINUTES)
        else:
            super().__init__(track, len(files), "embedding")

    def until_stopped(self, files: Iterable[str]) -> Iterator[str]:
        """Yield the files, until the display ends."""
        for file in files:
            if self.stopped:
                return
            yield file

    def add_audio(self, seconds: float) -> None:
        """Count audio."""
        if self.by_minutes:
            self.add(seconds / 60)

    def add_file(self) -> None:
        """Count a file, embedded or skipped."""
        if not self.by_minutes:
            self.add()

    def reach(self, file: str, seconds: float) -> None:
        """Count the audio of a file up to this time, and the file before it; files come one after another."""
        if file != self._file:
            if self._file:
                self.add_file()
            self._file, self._reached = file, 0.0
        self.add_audio(seconds - self._reached)
        self._reached = seconds


def _minutes(files: Sequence[str], table: TableWriter) -> float | None:
    """Return the duration of files by their headers; None if it is unknown, or the process has died on one."""
    if len(files) > FEW or table.suspects() or not all(Path(file).is_file() for file in files):
        return None
    seconds = 0.0
    for file in files:
        table.begin(file)
        try:
            with open_sound(file) as sound:
                if sound.frames <= 0:
                    return None
                seconds += sound.frames / sound.sample_rate
        except AudioError:  # the file is skipped when it is read
            continue
    return seconds / 60
