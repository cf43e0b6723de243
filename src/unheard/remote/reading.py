"""Files and folders at addresses as local ones: copies of the shared cache."""

from __future__ import annotations

import atexit
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path
from tempfile import mkdtemp

from unheard.addresses import address_of, named
from unheard.errors import RemoteError, shown
from unheard.remote.cache import cache_folder, shared_cache
from unheard.remote.copies import STALE
from unheard.remote.listing import Entry, entry_of, files_below, is_file
from unheard.remote.writing import naming

_copies: dict[tuple[int, str, tuple[tuple[str, Entry], ...], frozenset[str]], Path] = {}
"""Folders with the copies of this process, by process, address, versions and files without content."""


def open_file(path: str | os.PathLike[str], sha256: str = "") -> BufferedReader:
    """Open the local copy of a file at an address; arguments and errors are those of `FileCache.open`."""
    return shared_cache().open(address_of(path), sha256)


def size_of(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a file at an address.

    Raises
    ------
    RemoteError
        When it is not there, or the store does not give its size and it cannot be read.
    """
    size = entry_of(address_of(path)).size
    if size < 0:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
    return size


def local_path(path: str | Path) -> Path:
    """Return a local file as it is, and for an address a copy of the same name, with its companion ``NAME.json``.

    The copy stays until the process ends.

    Raises
    ------
    RemoteError
        When there is no such file, or it cannot be read.
    """
    address = address_of(path)
    if not address:
        return Path(path)
    parent, _, name = address.rpartition("/")
    names = [name, f"{name}.json"] if name.endswith(".csv") and is_file(f"{address}.json") else [name]
    return _copied(parent, {each: entry_of(f"{parent}/{each}") for each in names}) / name


def local_folder(
    path: str | Path,
    wanted: Callable[[str], bool] = lambda name: True,
    placeholder: Callable[[str], bool] = lambda name: False,
) -> Path:
    """Return a local folder as it is, and for an address a copy of the same name, which stays until the process ends.

    Parameters
    ----------
    path : path
    wanted : callable
        Returns whether a file is needed, by its name relative to the folder.
    placeholder : callable
        Returns likewise whether a file of the same size without content is enough; of 1 byte, if the store gives no
        size.

    Raises
    ------
    RemoteError
        When there is no such folder, or a file cannot be read.
    """
    address = address_of(path).rstrip("/")
    if not address:
        return Path(path)
    found = {name: entry for name, entry in files_below(address).items() if wanted(name)}
    if not found:
        raise RemoteError(f"{shown(address)}: no such folder, or one without the files that are needed; correct it")
    return _copied(address, found, frozenset(filter(placeholder, found)))


def source_of(path: Path) -> str:
    """Return the address of a file or folder that this process copied, or the name of any other path as it is."""
    for (_, address, *_), copy in _copies.items():
        if path.is_relative_to(copy):
            return f"{address}/{path.relative_to(copy).as_posix()}".removesuffix("/.")
    return named(path)


@contextmanager
def copied_folder(
    path: str | Path,
    wanted: Callable[[str], bool] = lambda name: True,
    placeholder: Callable[[str], bool] = lambda name: False,
) -> Iterator[Path]:
    """Yield the folder of `local_folder`, and name the address instead of a copy in errors."""
    if not address_of(path):
        yield Path(path)
        return
    folder = local_folder(path, wanted, placeholder)
    with naming(folder, named(path)):
        yield folder


def fetch(address: str, folder: Path, names: Iterable[str], linked: bool = False) -> None:
    """Copy files below an address into a local folder.

    Parameters
    ----------
    linked : bool
        Link them to the copies of the cache, if they will not be changed.

    Raises
    ------
    RemoteError
        When a file cannot be read.
    """
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_file(f"{address}/{name}") as file:
            try:
                if linked:
                    os.link(file.name, target)
                    continue
            except OSError:  # the disk has no links
                pass
            unfinished = target.with_name(f".{target.name}.part")  # a file that is there is complete
            shutil.copyfile(file.name, unfinished)
            unfinished.replace(target)


def _copied(address: str, found: dict[str, Entry], placeholders: frozenset[str] = frozenset()) -> Path:
    key = (os.getpid(), address, tuple(found.items()), placeholders)
    if key not in _copies:
        copy = _place(os.getpid()) / str(len(_copies)) / (Path(address).name or "files")
        fetch(address, copy, [name for name in found if name not in placeholders], linked=True)
        for name in placeholders:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            with (copy / name).open("wb") as file:
                file.truncate(found[name].size if found[name].size >= 0 else 1)
        _copies[key] = copy
    return _copies[key]


@cache
def _place(process: int) -> Path:
    """Return the folder for copies of a process; it is deleted when the process ends."""
    base = cache_folder() / "folders"
    base.mkdir(parents=True, exist_ok=True)
    for folder in base.iterdir():
        if time.time() - folder.stat().st_mtime > STALE:  # of a process that was killed
            shutil.rmtree(folder, ignore_errors=True)
    place = Path(mkdtemp(dir=base, prefix=f"{process}-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
