"""Locks of output files and folders: one process at a time writes them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unheard.errors import InUseError

LOCK = ".lock"
"""Name of the lock file in a folder, and the end of the name of the lock file next to a file."""

OWNER_READS = 50  # 10 ms apart; our choice


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder while the block runs; make the folder when it is missing, and delete it when it stays empty.

    The system releases the lock when the process ends, however it ends.

    Raises
    ------
    InUseError
        When another process holds the lock, with its id and host.
    """
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _holding(folder / LOCK, folder):
            yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it holds something, which is what it was made for
                folder.rmdir()


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the lock of an output file while the block runs; the lock file is next to it. As `locked_folder` otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _holding(path.with_name(f".{path.name}{LOCK}"), path):
        yield


@contextmanager
def _holding(place: Path, output: Path) -> Iterator[None]:
    descriptor = _take(place, output)
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        os.close(descriptor)


def _take(place: Path, output: Path) -> int:
    """Open and lock a lock file; a file that its last owner deleted in the meantime is opened again."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise InUseError(f"{output} is being written by {owner}; wait until it has ended, or choose another -o") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), place.stat()):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    """Return what the owner of a lock wrote into its file; it writes right after it has the lock."""
    for _ in range(OWNER_READS):
        if owner := os.pread(descriptor, 200, 0).decode(errors="replace").strip():
            return owner
        time.sleep(0.01)
    return "another process"
