"""The interface of an archive: names of its members, and the bytes of each."""

from __future__ import annotations

import io
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unheard.errors import AudioError, shown

BUFFER = 1 << 16
"""Bytes that are read at once from a member of a tar file (our choice)."""


class Archive(ABC):
    """A file that holds sound files.

    Attributes
    ----------
    path : Path
    problem : str
        Why some or all of its members cannot be read; empty for a complete archive.
    note : str
        A note for the user; empty if there is nothing to report.
    """

    path: Path
    problem: str = ""
    note: str = ""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the members, in the order in which they are listed."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Return whether there is a member of this name."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the bytes of a member.

        Raises
        ------
        AudioError
            When it is not there, or cannot be read.
        """

    @abstractmethod
    def open(self, name: str) -> io.BufferedReader:
        """Open a member for reading, with a position of its own.

        Raises
        ------
        AudioError
            When it is not there, or cannot be read.
        """

    def lacks(self, name: str) -> AudioError:
        """Return the error for a name that is not among the members."""
        reason = f"; the archive cannot be read completely: {self.problem}" if self.problem else ""
        return AudioError(f"{shown(self.path / name)}: no such file in the archive {shown(self.path)}{reason}")


class RowArchive(Archive):
    """An archive whose members are rows of a table; a row that is opened is held in memory.

    Subclasses set `rows`, the number of the row of each member, and define `content`.
    """

    rows: dict[str, int]

    @property
    def names(self) -> list[str]:
        """Return the names in the order of the rows."""
        return list(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def size(self, name: str) -> int:
        """Return the bytes of a sound."""
        return len(self._content(name))

    def open(self, name: str) -> io.BufferedReader:
        """Open a sound that is held in memory."""
        return io.BufferedReader(io.BytesIO(self._content(name)))

    @abstractmethod
    def content(self, row: int) -> bytes | memoryview:
        """Return the bytes of a row; its errors name the reason only.

        Raises
        ------
        OSError, RuntimeError, ValueError
            When it cannot be read.
        """

    def _content(self, name: str) -> bytes | memoryview:
        if name not in self.rows:
            raise self.lacks(name)
        try:
            return self.content(self.rows[name])
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise AudioError(f"{shown(self.path / name)}: its row cannot be read ({reason})") from error


class ReadOnly(io.RawIOBase):
    """A file that is computed from another one; subclasses define `readinto`.

    Parameters
    ----------
    file : binary file
        Closed with this one.
    size : int
        Bytes.
    """

    def __init__(self, file: io.RawIOBase | io.BufferedReader, size: int) -> None:
        super().__init__()
        self.file, self.size, self.position = file, size, 0

    def close(self) -> None:
        """Close both files."""
        self.file.close()
        super().close()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte to read."""
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the read position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position


class Slice(ReadOnly):
    """A part of a file as a file.

    Parameters
    ----------
    path : Path
    offset, size : int
        Bytes.
    """

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__(path.open("rb", buffering=0), size)
        self._offset = offset

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        count = max(0, min(len(buffer), self.size - self.position))
        self.file.seek(self._offset + self.position)
        came = self.file.readinto(memoryview(buffer)[:count]) or 0
        self.position += came
        return came

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Map the part into memory."""
        before = self._offset % mmap.ALLOCATIONGRANULARITY
        with (
            mmap.mmap(
                self.file.fileno(), before + self.size, access=mmap.ACCESS_READ, offset=self._offset - before
            ) as content,
            memoryview(content) as whole,
            whole[before:] as view,
        ):
            yield view


@contextmanager
def mapped(file: io.BufferedReader) -> Iterator[memoryview]:
    """Yield the bytes of a file that is open for reading and not empty, or of a member of an archive."""
    raw = getattr(file, "raw", file)
    if isinstance(raw, io.BytesIO):
        with raw.getbuffer() as view:
            yield view
    elif isinstance(raw, Slice):
        with raw.mapped() as view:
            yield view
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            yield view
