"""Frames of a long clip, in a file until the clip is complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import IO

import numpy as np

from unheard.embedding.job import Embedding, LiveFrames, Sound
from unheard.embedding.table_files import clear_errors
from unheard.embedding.tables import TableWriter


class FrameSpool:
    """The first frames of one clip, in a file in the folder of its parts; a context manager.

    The file has no name. It disappears when it is not used any more, also when the process is killed.
    """

    def __init__(self, table: TableWriter) -> None:
        self._table = table
        self._owner: Sound | None = None
        self._file: IO[bytes] | None = None
        self._times: list[np.ndarray] = []

    def __enter__(self) -> FrameSpool:
        """Return the spool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._close()

    def add(self, sound: Sound, live: LiveFrames) -> None:
        """Append frames of a sound; those of an earlier one have been discarded.

        Raises
        ------
        DataError
            When the disk is full.
        """
        frames, times = live
        with clear_errors(self._table.out):
            if self._file is None:
                self._owner, self._file = sound, tempfile.TemporaryFile(dir=self._table.parts)  # noqa: SIM115
            np.ascontiguousarray(frames, np.float32).tofile(self._file)
        self._times.append(times)

    def pieces(self, sound: Sound, last: Embedding) -> Iterator[tuple[Embedding, bool]]:
        """Yield the frames of a sound in pieces, ``last`` at the end, each with whether it is the last one."""
        if self._file is not None and sound == self._owner:
            self._file.seek(0)
            for times in self._times:
                frames = np.fromfile(self._file, np.float32, len(times) * self._table.size)
                yield replace(last, frames=frames.reshape(len(times), -1), times_ms=times), False
        yield last, True

    def discard(self, sound: Sound) -> None:
        """Close the file, if its frames are those of this sound."""
        if sound == self._owner:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._owner, self._file, self._times = None, None, []
