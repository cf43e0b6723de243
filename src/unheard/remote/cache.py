"""A folder of whole files from addresses, of bounded size: the least recently used ones are deleted first.

    UNHEARD_CACHE       folder; default: ``~/.cache/unheard``, or ``unheard`` below XDG_CACHE_HOME
    UNHEARD_CACHE_GB    most gigabytes of copies in it; default 20

A file is downloaded under a temporary name, compared with its size and, if it has one, its checksum, and renamed. Open
files are locked (``flock``, shared), and locked files are not deleted, by any process of this machine. If the files in
use are larger than the limit, it is exceeded until they are closed: then they are deleted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader
from pathlib import Path
from threading import Condition, Lock

from unheard.errors import ConfigError, RemoteError, shown, warn_damaged
from unheard.remote.access import attempt
from unheard.remote.copies import PART, all_copies, delete_unused, open_copy
from unheard.remote.listing import entry_of, forget

FOLDER, LIMIT = "UNHEARD_CACHE", "UNHEARD_CACHE_GB"
"""Environment variables."""
GIGABYTES = 20.0
"""Default of `LIMIT` (our choice)."""
UNCOUNTED = 0.01
"""Part of the limit that a process downloads before it counts the copies of other processes again (our choice)."""
_OVER = "over"
"""Name of a file in the folder while the copies are larger than the limit because they are in use."""


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
        Bytes of all copies together, and of the downloads of this process. Copies in use may exceed it. Downloads of
        several processes at the same time may exceed it until they are complete.
    """

    folder: Path
    limit: int
    _counted: int | None = None
    _since: int = 0
    _coming: dict[Path, int] = field(default_factory=dict)
    _intact: set[str] = field(default_factory=set)
    _changed: Condition = field(default_factory=Condition)
    _locks: dict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    def open(self, address: str, sha256: str = "") -> BufferedReader:
        """Open the copy of a file; download it first if it is missing. Close it, so that it can be deleted.

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
        with self._changed:
            if self._counted is None:  # the limit may be lower than that of earlier processes
                self._evict()
        key = sha256 or hashlib.sha256(f"{address}\n{entry.size}\n{entry.version}".encode()).hexdigest()
        file = self.folder / key[:2] / key
        with self._locks[key]:
            found = self._verified(file, sha256)
            while found is None:
                found = self._downloaded(address, file, sha256)
        self._locks.pop(key, None)
        return found

    def _verified(self, file: Path, sha256: str) -> BufferedReader | None:
        """Open a copy of an earlier process, if there is one; a damaged one is deleted."""
        opened = open_copy(file, self._released)
        if opened is None or not sha256 or sha256 in self._intact:
            return opened
        if _checksum(file) == sha256:
            self._intact.add(sha256)
            return opened
        opened.close()
        warn_damaged(file)
        file.unlink(missing_ok=True)
        return None

    def _downloaded(self, address: str, file: Path, sha256: str) -> BufferedReader | None:
        """Download a file, rename it to its final name and open it; None if another process has deleted it."""
        unfinished = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{PART}")

        def get(system: object, place: str) -> None:
            size = entry_of(address).size
            self._make_room(address, unfinished, max(size, 0))
            system.get_file(place, str(unfinished))  # type: ignore[attr-defined]
            came = unfinished.stat().st_size
            if size >= 0 and came != size:
                forget(address)
                raise OSError(f"{came} of {size} bytes came")
            if sha256 and _checksum(unfinished) != sha256:
                raise OSError("it differs from its checksum")

        opened = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            attempt(address, "read", get)
            unfinished.replace(file)
            opened = open_copy(file, self._released)
        except FileNotFoundError as error:
            forget(address)
            raise RemoteError(f"{shown(address)}: no such file; it was deleted meanwhile") from error
        except RemoteError:
            raise
        except OSError as error:
            raise self._unwritable(address, error) from error
        finally:
            with suppress(OSError):
                unfinished.unlink()
            with self._changed:
                self._coming.pop(unfinished, None)
                self._since += os.fstat(opened.fileno()).st_size if opened else 0
                self._changed.notify_all()
        with self._changed:
            self._intact.update({sha256} - {""})
            if not self._fits():
                self._evict()
        return opened

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

    def _make_room(self, address: str, unfinished: Path, size: int) -> None:
        """Delete the least recently used copies until ``size`` bytes fit; first wait for other downloads, if needed."""
        if size > self.limit:
            raise RemoteError(
                f"{shown(address)}: has {_gigabytes(size)}, more than the cache may have, {_gigabytes(self.limit)};"
                f" set {LIMIT} to a larger number"
            )
        with self._changed:
            self._coming.pop(unfinished, None)  # of an earlier attempt
            while not self._fits(size):
                self._evict(size)
                if self._fits(size) or not self._coming:
                    break
                self._changed.wait()
            if self._free() < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._coming[unfinished] = size

    def _fits(self, size: int = 0) -> bool:
        """Return whether ``size`` more bytes fit into the cache and on its disk."""
        if self._counted is None or self._since > UNCOUNTED * self.limit:
            return False
        needed = sum(self._coming.values()) + size
        return self._counted + self._since + needed <= self.limit and self._free() >= size

    def _free(self) -> int:
        """Return the free bytes of the disk, without those that running downloads will write."""
        left = sum(max(0, size - _size(unfinished)) for unfinished, size in self._coming.items())
        return shutil.disk_usage(self.folder).free - left

    def _evict(self, size: int = 0) -> None:
        """Delete the least recently used copies until ``size`` more bytes fit, or the rest is in use."""
        over = self.folder / _OVER
        with suppress(OSError):  # first: another process may add copies, and mark them, during the count
            over.unlink()
        self._delete_oldest(size)
        if self._counted and self._counted > self.limit:
            over.touch()
            self._delete_oldest(size)  # what was closed before the mark

    def _delete_oldest(self, size: int) -> None:
        files = all_copies(self.folder)
        self._counted, self._since = sum(each.size for each in files), 0
        for each in files:
            if self._fits(size):
                break
            if delete_unused(each.path):
                self._counted -= each.size

    def _released(self) -> None:
        """Delete copies that exceeded the limit while they were in use."""
        with self._changed:
            if (self.folder / _OVER).exists():
                self._evict()


def _size(file: Path) -> int:
    """Return the bytes of a file, 0 if there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


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
