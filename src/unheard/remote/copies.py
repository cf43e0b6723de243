"""Files of the cache: locked while they are open, and deleted only if they are not."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from io import BufferedReader, FileIO
from pathlib import Path
from typing import NamedTuple

STALE = 24 * 3600.0
"""Seconds after which an unfinished download of a killed process is deleted (our choice)."""
PART = ".part"
"""End of the name of an unfinished download."""


class CopyState(NamedTuple):
    """A copy, the time of its last use and its bytes."""

    path: Path
    used: float
    size: int


class OpenCopy(BufferedReader):
    """A locked copy.

    Parameters
    ----------
    file : Path
    released : callable
        It is called after the copy is closed.
    """

    def __init__(self, file: Path, released: Callable[[], None]) -> None:
        super().__init__(FileIO(file))
        self._released = released

    def close(self) -> None:
        """Close the file, which unlocks it."""
        was_open = not self.closed
        super().close()
        if was_open:
            self._released()


def open_copy(file: Path, released: Callable[[], None]) -> OpenCopy | None:
    """Open and lock a copy, and mark it as used now; None if there is none. Arguments are those of `OpenCopy`."""
    try:
        opened = OpenCopy(file, released)
    except (FileNotFoundError, NotADirectoryError):
        return None
    fcntl.flock(opened.fileno(), fcntl.LOCK_SH)
    try:
        os.utime(file)
        if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
            return opened
    except FileNotFoundError:  # deleted before it was locked
        pass
    opened.close()
    return None


def delete_unused(file: Path) -> bool:
    """Delete a copy unless it is open somewhere; return whether it is deleted."""
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def all_copies(folder: Path) -> list[CopyState]:
    """Return all copies, the least recently used ones first; delete what killed processes left."""
    found = []
    for path in folder.glob("??/*"):
        try:
            state = path.stat()
        except OSError:  # deleted by another process
            continue
        if not path.name.endswith(PART):
            found.append(CopyState(path, state.st_mtime, state.st_size))
        elif time.time() - state.st_mtime > STALE:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda each: each.used)
