"""One notion of a sound in an archive: the path ``ARCHIVE/MEMBER``, where ARCHIVE is a file.

Functions here take the path of a file or of a member, so that what reads sounds need not tell them apart. The index of
an archive is made once in a process, and again if the file has changed.

A file may be at an address, such as ``s3://bucket/a.wav``: its local copy is read, see `unheard.remote`.
"""

from __future__ import annotations

import os
import re
import zlib
from io import BufferedReader
from pathlib import Path, PurePosixPath
from threading import Lock

from unheard.addresses import address_of
from unheard.audio.archives.archive import Archive
from unheard.audio.archives.hdf5 import SUFFIXES as HDF5
from unheard.audio.archives.hdf5 import Hdf5Archive
from unheard.audio.archives.parquet import ParquetArchive
from unheard.audio.archives.tar import TarArchive
from unheard.audio.suffixes import AUDIO_SUFFIXES, AV_SUFFIXES
from unheard.errors import AudioError, shown
from unheard.remote import listing, reading

ARCHIVES = HDF5 | {".tar", ".parquet"}
"""Suffixes of archives, in lower case."""

COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2|txz)$", re.IGNORECASE)
"""Ends of names of compressed tar files, in which a member cannot be read at its place."""

_INSIDE = re.compile(r"\.(?:tar|parquet|h5|hdf5?)(?=/)", re.IGNORECASE)

State = tuple[int, int]
"""Size in bytes and modification time in ns of a file."""

_known: dict[str, tuple[State, Archive]] = {}
_lock = Lock()


def is_archive(path: Path) -> bool:
    """Return whether a file has the suffix of an archive."""
    return path.suffix.lower() in ARCHIVES


def open_archive(path: Path) -> Archive:
    """Return the index of an archive.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    key, state = os.path.abspath(path), file_state(path)  # noqa: PTH100 - links are not followed
    with _lock:
        if key not in _known or _known[key][0] != state:
            _known[key] = state, _read(reading.local_path(path), path.suffix.lower())
        return _known[key][1]


def _read(path: Path, suffix: str) -> Archive:
    if suffix == ".tar":
        return TarArchive(path)
    return (Hdf5Archive if suffix in HDF5 else ParquetArchive)(path, AUDIO_SUFFIXES | AV_SUFFIXES)


def find_member(path: str | Path) -> tuple[Archive, str] | None:
    """Return the archive and the name of the member that a path names; None if no part of it is an archive.

    Raises
    ------
    OSError
        When the archive cannot be read.
    """
    text = os.fspath(path)
    for found in _INSIDE.finditer(text):
        archive = text[: found.end()]
        if listing.is_file(archive):
            return open_archive(Path(archive)), PurePosixPath(text[found.end() :].lstrip("/")).as_posix()
    return None


def is_sound_file(path: str | Path) -> bool:
    """Return whether a path is a file, or names a member of an archive."""
    if listing.is_file(path):
        return True
    try:
        found = find_member(path)
    except OSError:
        return False
    return found is not None and found[1] in found[0]


def byte_size(path: Path) -> int:
    """Return the bytes of a file or of a member of an archive.

    Raises
    ------
    OSError, AudioError
        When it cannot be read.
    """
    found = _not_a_file(path)
    if found is not None:
        return found[0].size(found[1])
    return reading.size_of(path) if address_of(path) else path.stat().st_size


def open_bytes(path: Path) -> BufferedReader:
    """Open a file or a member of an archive for reading.

    Raises
    ------
    OSError, AudioError
        When it cannot be read.
    """
    found = _not_a_file(path)
    if found is not None:
        return found[0].open(found[1])
    return reading.open_file(path) if address_of(path) else path.open("rb")


def file_state(path: str | Path) -> State:
    """Return size and modification time of a file, or of the archive that holds a member.

    Raises
    ------
    OSError
        When it is not there.
    """
    if address := address_of(path):
        inside = _INSIDE.search(address)
        entry = listing.entry_of(address[: inside.end()] if inside else address)
        return entry.size, zlib.crc32(entry.version.encode())
    try:
        state = os.stat(path)  # noqa: PTH116 - millions of names
    except NotADirectoryError:
        found = find_member(path)
        if found is None:
            raise
        state = found[0].path.stat()
    return state.st_size, state.st_mtime_ns


def refuse_archive(path: Path) -> None:
    """Refuse an archive in place of one sound, with the reason why its members cannot be read, if there is one.

    Raises
    ------
    OSError, AudioError
        For an archive.
    """
    if COMPRESSED.search(path.name):
        raise AudioError(
            f"{shown(path)}: a compressed tar file, in which sounds cannot be read at their place; unpack the"
            " compression (gunzip, bunzip2, unxz or unzstd) and give the tar file"
        )
    if is_archive(path):
        reason = open_archive(path).problem or "an archive, not one sound; give one of its files as ARCHIVE/FILE"
        raise AudioError(f"{shown(path)}: {reason}")


def _not_a_file(path: Path) -> tuple[Archive, str] | None:
    """Return the member that a path names if it is not a file."""
    return None if not address_of(path) and path.is_file() else find_member(path)
