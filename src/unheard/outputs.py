"""Output files and folders: existing ones are refused, and locks allow one writing process at a time."""

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
from typing import Literal

from unheard.addresses import address_of, named
from unheard.errors import ConfigError, InUseError

Kind = Literal["file", "folder"]

LOCK = ".lock"
"""Name of the lock file in a folder; the lock of a file has a name that ends in it."""

OWNER_READS = 50  # 10 ms apart; our choice

WAYS = "choose another -o, or replace it with --overwrite"


def refuse_existing(out: str | Path, overwrite: bool, ways: str = WAYS, *, kind: Kind | None = None) -> None:
    """Refuse an existing output unless it is to be overwritten.

    Parameters
    ----------
    out : path
        A file or a folder.
    overwrite : bool
        Whether to overwrite it: then only one of another kind is refused.
    ways : str
        What the user can do, for the message.
    kind : {"file", "folder"}, optional
        What is written.

    Raises
    ------
    ConfigError
        When the output exists. If a process is writing to it, the message has its id and host.
    """
    refuse_address(out)
    path = Path(out)
    if kind is not None:
        refuse_other_kind(out, kind)
    if overwrite or not path.exists():
        return
    if (path / LOCK).is_file():
        with locked_folder(path):
            pass  # the lock of a process that was killed
    raise ConfigError(f"{out} exists; {ways}")


def refuse_other_kind(out: str | Path, kind: Kind, found: Kind | None = None) -> None:
    """Refuse a folder where a file is to be written, and a file where a folder is.

    Parameters
    ----------
    out : path
    kind : {"file", "folder"}
        What is written.
    found : {"file", "folder"}, optional
        What is there, if that is known; else a local path is looked up.

    Raises
    ------
    ConfigError
        Naming it.
    """
    path = Path(out)
    there = found or ("folder" if path.is_dir() else "file" if path.is_file() else kind)
    if there != kind:
        way = "give the name of a file with -o" if kind == "file" else "give a folder with -o"
        raise ConfigError(f"{named(out)} is a {there}; {way}")


def refuse_address(path: str | os.PathLike[str]) -> None:
    """Refuse to write to an address, such as ``s3://bucket/folder``, where only local files are written.

    Raises
    ------
    ConfigError
        Naming it.
    """
    if address := address_of(path):
        raise ConfigError(f"{address}: this writes local files only; give a local path, and copy the result")


def in_use(folder: Path) -> bool:
    """Return whether a process holds the lock of an output folder. Nothing is created; the lock is not taken over."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder while the block runs.

    A missing folder is created, and deleted if it stays empty.

    The system releases the lock when the process ends, for any reason.

    Raises
    ------
    InUseError
        When another process holds the lock, with its id and host.
    """
    existed = folder.is_dir()
    try:
        with _holding(folder / LOCK, folder):
            yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty, as it should be
                folder.rmdir()


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the lock of an output file while the block runs, as `locked_folder`; the lock file is in the same folder."""
    with _holding(path.with_name(f".{path.name}{LOCK}"), path):
        yield


@contextmanager
def _holding(lock: Path, output: Path) -> Iterator[None]:
    descriptor = _take(lock, output)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _take(lock: Path, output: Path) -> int:
    """Open and lock a lock file; if its last owner deleted it or its empty folder in the meantime, make it again."""
    refuse_address(output)
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise InUseError(
                f"{output} is being written by {owner}; wait until that process ends, or choose another -o"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    """Return the text that the owner of a lock wrote into its file; it writes immediately after locking."""
    for _ in range(OWNER_READS):
        if owner := os.pread(descriptor, 200, 0).decode(errors="replace").strip():
            return owner
        time.sleep(0.01)
    return "another process"
