"""Which files there are at an address, with their sizes and versions."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, NamedTuple

from unheard.addresses import address_of, scheme_of
from unheard.errors import RemoteError, shown
from unheard.remote.access import attempt


class Entry(NamedTuple):
    """A file at an address.

    Parameters
    ----------
    size : int
        Bytes.
    version : str
        A text that changes with the content: the checksum or the date that the store gives.
    """

    size: int
    version: str


_known: dict[str, Entry] = {}
"""Entries that this process has seen; a file is looked up once, so that a store is not asked for each part of it."""
_lock = Lock()


def entry_of(address: str, again: bool = False) -> Entry:
    """Return size and version of a file.

    Parameters
    ----------
    address : str
    again : bool
        Ask the store, even if this process knows the file.

    Raises
    ------
    RemoteError
        When there is no such file, or it cannot be looked up.
    """
    if not again and address in _known:
        return _known[address]
    try:
        found = attempt(address, "read", lambda system, place: system.info(place))
    except FileNotFoundError as error:
        raise _missing(address, error) from error
    if found.get("type") == "directory":
        raise RemoteError(f"{shown(address)}: is a folder; give one file")
    return _remember(address, found)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file, here or at an address."""
    return _kind(path) == "file" if address_of(path) else os.path.isfile(path)  # noqa: PTH113 - millions of names


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder; at an address, a place with files below it."""
    return _kind(path) == "directory" if address_of(path) else Path(path).is_dir()


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file or a folder, here or at an address."""
    return bool(_kind(path)) if address_of(path) else Path(path).exists()


def _kind(path: str | os.PathLike[str]) -> str:
    address = address_of(path)
    if address in _known:
        return "file"
    try:
        found = attempt(address, "read", lambda system, place: system.info(place))
    except FileNotFoundError:
        return ""
    kind = str(found.get("type", "file"))
    if kind == "file":
        _remember(address, found)
    return kind


def files_below(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Return the files below a folder, by their paths relative to it, in their order.

    Raises
    ------
    RemoteError
        When there is no such folder, or it cannot be listed.
    """
    address = address_of(path).rstrip("/")

    def find(system: Any, place: str) -> dict[str, dict[str, Any]]:
        found = system.find(place, detail=True)
        if not found:
            system.ls(place)  # raises the error of a bucket that is not there
        base = system._strip_protocol(address).rstrip("/") + "/"
        return {name.removeprefix(base): each for name, each in found.items() if name.startswith(base)}

    try:
        found = attempt(address, "listed", find)
    except FileNotFoundError as error:
        raise _missing(address, error) from error
    files = {name: each for name, each in found.items() if name and each.get("type", "file") == "file"}
    return {name: _remember(f"{address}/{name}", files[name]) for name in sorted(files)}


def names_in(path: str | os.PathLike[str]) -> frozenset[str]:
    """Return the names of the files in a folder; none if it is not there."""
    address = address_of(path).rstrip("/")
    try:
        found = attempt(address, "listed", lambda system, place: system.ls(place, detail=True))
    except FileNotFoundError:
        return frozenset()
    files = [(PurePosixPath(each["name"]).name, each) for each in found if each["type"] == "file"]
    for name, each in files:
        _remember(f"{address}/{name}", each)
    return frozenset(name for name, _ in files)


def forget(address: str) -> None:
    """Forget what this process knows of a file, because it was replaced."""
    with _lock:
        _known.pop(address, None)


def _remember(address: str, found: dict[str, Any]) -> Entry:
    fields = ("ETag", "etag", "md5Hash", "generation", "blob_id", "LastModified", "mtime", "modified", "created")
    version = next((str(found[name]) for name in fields if found.get(name)), "")
    entry = Entry(-1 if found.get("size") is None else int(found["size"]), version)
    with _lock:
        _known[address] = entry
    return entry


def _missing(address: str, error: FileNotFoundError) -> RemoteError:
    text = str(error).lower()
    bucket = ("bucket does not exist" in text or "nosuchbucket" in text) and scheme_of(address) != "file"
    if bucket:
        name = address.partition("://")[2].partition("/")[0]
        return RemoteError(
            f"{shown(address)}: there is no bucket {shown(name)}; correct the address, or make the bucket"
        )
    return RemoteError(f"{shown(address)}: no such file or folder; correct the address")
