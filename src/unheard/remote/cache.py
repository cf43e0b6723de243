"""A folder of whole files from addresses, of bounded size: the least recently used ones are deleted first.

    UNHEARD_CACHE       folder; default: ``~/.cache/unheard``, or ``unheard`` below XDG_CACHE_HOME
    UNHEARD_CACHE_GB    most gigabytes of copies in it; default 20

A file is downloaded under a temporary name, compared with its size and, if it has one, its checksum, and renamed. Open
files are locked (``flock``, shared), and locked files are not deleted, by any process of this machine.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader
from pathlib import Path
from threading import Lock, RLock

from unheard.errors import ConfigError, RemoteError, shown, warn_damaged
from unheard.remote.access import attempt
from unheard.remote.listing import entry_of, forget

FOLDER, LIMIT = "UNHEARD_CACHE", "UNHEARD_CACHE_GB"
"""Environment variables."""
GIGABYTES = 20.0
"""Default of `LIMIT` (our choice)."""
STALE = 24 * 3600.0
"""Seconds after which an unfinished download of a killed process is deleted (our choice)."""
_PART = ".part"


def cache_folder() -> Path:
    """Return the folder of the cache."""
    given = os.environ.get(FOLDER)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given).expanduser() if given else Path(base).expanduser() / "unheard"


def cache_limit() -> int:
    """Return the largest size of the cache in bytes.

    Raises
    ------
    ConfigError
        When the environment variable is not a positive number.
    """
    text = os.environ.get(LIMIT) or str(GIGABYTES)
    try:
        size = float(text) * 1e9
    except ValueError:
        size = 0.0
    if not 0 < size < 1e18:
        raise ConfigError(f"{LIMIT} is {text!r}; give the gigabytes of the cache as a positive number, such as 20")
    return int(size)


@dataclass
class FileCache:
    """Copies of files from addresses.

    Parameters
    ----------
    folder : Path
    limit : int
        Bytes of all copies together, except those that are being read when none other is left.
    """

    folder: Path
    limit: int
    _used: int | None = None
    _intact: set[str] = field(default_factory=set)
    _lock: RLock = field(default_factory=RLock)
    _locks: dict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    def open(self, address: str, sha256: str = "") -> BufferedReader:
        """Open the copy of a file; download it first if it is missing.

        Parameters
        ----------
        address : str
        sha256 : str, optional
            Its checksum: then the copy is found by it, and a download is compared with it.

        Raises
        ------
        RemoteError
            When there is no such file, it cannot be read, it differs from its checksum, or there is no space for it.
        """
        entry = entry_of(address)
        with self._lock:
            if self._used is None:  # the limit may be lower than that of earlier processes
                self._evict(0)
        key = sha256 or hashlib.sha256(f"{address}\n{entry.size}\n{entry.version}".encode()).hexdigest()
        file = self.folder / key[:2] / key
        with self._locks[key]:
            found = self._verified(file, sha256)
            while found is None:
                self._download(address, file, sha256)
                found = _opened(file)
        self._locks.pop(key, None)
        return found

    def _verified(self, file: Path, sha256: str) -> BufferedReader | None:
        """Open a copy of an earlier process, if there is one; a damaged one is deleted."""
        opened = _opened(file)
        if opened is None or not sha256 or sha256 in self._intact:
            return opened
        if _checksum(file) == sha256:
            self._intact.add(sha256)
            return opened
        opened.close()
        warn_damaged(file)
        file.unlink(missing_ok=True)
        return None

    def _download(self, address: str, file: Path, sha256: str) -> None:
        """Download a file and rename it to its final name."""
        unfinished = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_PART}")

        def get(system: object, place: str) -> None:
            size = entry_of(address).size
            self._make_room(address, size)
            system.get_file(place, str(unfinished))  # type: ignore[attr-defined]
            came = unfinished.stat().st_size
            if size >= 0 and came != size:
                forget(address)
                raise OSError(f"{came} of {size} bytes came")
            if sha256 and _checksum(unfinished) != sha256:
                raise OSError("it differs from its checksum")

        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            attempt(address, "read", get)
            unfinished.replace(file)
        except FileNotFoundError as error:
            forget(address)
            raise RemoteError(f"{shown(address)}: no such file; it was deleted meanwhile") from error
        except RemoteError:
            raise
        except OSError as error:
            raise self._unwritable(address, error) from error
        finally:
            unfinished.unlink(missing_ok=True)
        with self._lock:
            self._intact.update({sha256} - {""})
            self._used = (self._used or 0) + file.stat().st_size

    def _unwritable(self, address: str, error: OSError) -> RemoteError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return RemoteError(
                f"{shown(address)}: the disk of the cache {shown(self.folder)} is full; free some space, or set"
                f" {FOLDER} to a folder on another disk"
            )
        return RemoteError(
            f"{shown(address)}: the cache {shown(self.folder)} cannot be written ({error.strerror or error}); set"
            f" {FOLDER} to another folder"
        )

    def _make_room(self, address: str, size: int) -> None:
        """Delete the least recently used copies until ``size`` bytes fit."""
        with self._lock:
            if size > self.limit:
                raise RemoteError(
                    f"{shown(address)}: has {_gigabytes(size)}, more than the cache may have, {_gigabytes(self.limit)};"
                    f" set {LIMIT} to a larger number"
                )
            if self._used is None or self._used + size > self.limit or self._free() < size:
                self._evict(size)
            if self._free() < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _evict(self, size: int) -> None:
        files = sorted((found for found in self._scan()), key=lambda found: found[1])
        used = sum(each[2] for each in files)
        for path, _, bytes_ in files:
            if used + size <= self.limit and self._free() >= size:
                break
            if _deleted(path):
                used -= bytes_
        self._used = used

    def _scan(self) -> list[tuple[Path, float, int]]:
        """Return path, time of last use and size of every copy; delete what killed processes left."""
        found = []
        for path in self.folder.glob("??/*"):
            try:
                state = path.stat()
            except OSError:  # deleted by another process
                continue
            if path.name.endswith(_PART) and time.time() - state.st_mtime > STALE:
                path.unlink(missing_ok=True)
            elif not path.name.endswith(_PART):
                found.append((path, state.st_mtime, state.st_size))
        return found


def _opened(file: Path) -> BufferedReader | None:
    """Open and lock a copy, and mark it as used now; None if there is none."""
    try:
        opened = file.open("rb")
    except FileNotFoundError:
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


def _deleted(file: Path) -> bool:
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


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


@cache
def _cache(folder: Path, limit: int) -> FileCache:
    return FileCache(folder, limit)


def shared_cache() -> FileCache:
    """Return the cache of this process for the folder and the limit of its environment."""
    return _cache(cache_folder() / "files", cache_limit())
