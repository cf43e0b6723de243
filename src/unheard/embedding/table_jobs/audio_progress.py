"""Progress of embedding files: minutes of audio for a few long recordings, else files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from unheard.audio.waveform import info
from unheard.errors import AudioError
from unheard.progress import Done, Track

FEW = 100
"""Most files whose headers are read for their duration (our choice)."""

IN_MINUTES = "embedding, minutes of audio"
"""Description of a progress with this unit."""


class AudioProgress(Done):
    """Shows what is embedded, not what is read ahead; a context manager.

    If there are few files, and they last more than a minute in the mean, the unit is a minute of audio.
    """

    def __init__(self, files: Sequence[str], track: Track) -> None:
        self._file, self._reached = "", 0.0
        minutes = math.ceil(sum(map(_minutes, files))) if len(files) <= FEW else 0
        self.by_minutes = minutes > max(1, len(files))
        if self.by_minutes:
            super().__init__(track, minutes, IN_MINUTES)
        else:
            super().__init__(track, len(files), "embedding")

    def sources(self, files: Iterable[str]) -> Iterator[str]:
        """Yield the files, until the display ends."""
        for file in files:
            if self.stopped:
                return
            yield file

    def audio(self, seconds: float) -> None:
        """Count audio."""
        if self.by_minutes:
            self.add(seconds / 60)

    def reach(self, file: str, seconds: float) -> None:
        """Count the audio of a file up to this time; files come one after another."""
        self.audio(seconds - (self._reached if file == self._file else 0.0))
        self._file, self._reached = file, seconds

    def file(self) -> None:
        """Count a file, embedded or skipped."""
        if not self.by_minutes:
            self.add()


def _minutes(file: str) -> float:
    """Return the duration in the header of a local file; 0 if there is none."""
    if not Path(file).is_file():
        return 0.0
    try:
        return info(file).seconds / 60
    except AudioError:  # the file is skipped when it is read
        return 0.0
