"""Members of a tar file, found by its headers and read at their place, without unpacking.

A name is that of the file which GNU tar unpacks: without a leading slash, and without what precedes its last ``..``. Of
several members with one name the last counts, as in an unpacked folder. Links to other members are followed if they are
hard links. Files and folders whose names begin with a dot are left out.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unheard.audio.archives.archive import BUFFER, Archive, Slice
from unheard.errors import AudioError, shown

BLOCK = tarfile.BLOCKSIZE

MOST_EXTENDED = 1 << 20
"""Largest header with a long name or other fields, in bytes (our choice)."""

AFTER_END = 1 << 16
"""Bytes after the end mark that are searched for another archive (our choice); programs fill up to 10 kB with zeros."""

SPARSE = "it is stored with holes; make the tar file again without --sparse"


class Entry(NamedTuple):
    """A member of a tar file.

    Parameters
    ----------
    name : str
        As in the header.
    offset, size : int
        Bytes of its content.
    link : str
        Name of the member that has its content, for a hard link; empty for a file.
    problem : str
        Why it cannot be read; empty if it can.
    """

    name: str
    offset: int
    size: int
    link: str = ""
    problem: str = ""


class TarArchive(Archive):
    """A tar file without compression.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        When it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.problem = path, ""
        self._entries: dict[str, Entry] = {}
        repeated = 0
        try:
            with path.open("rb") as file:
                for entry in read_headers(file):
                    name = unpacked_name(entry.name)
                    if entry.link:
                        entry = self._entries.get(unpacked_name(entry.link), entry)
                    if name and not any(part.startswith(".") for part in name.split("/")):
                        repeated += name in self._entries
                        self._entries[name] = entry
        except AudioError as error:
            self.problem = str(error)
        self._names = sorted(self._entries)
        if repeated:
            self.note = f"{repeated} names occur more than once; the last file of each name is used"

    @property
    def names(self) -> list[str]:
        """Return the names in their order."""
        return self._names

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Return the bytes of a member."""
        return self._entry(name).size

    def open(self, name: str) -> io.BufferedReader:
        """Open a member with a file position of its own, so that threads and processes do not share one."""
        entry = self._entry(name)
        return io.BufferedReader(Slice(self.path, entry.offset, entry.size), BUFFER)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise self.lacks(name)
        if problem := self._entries[name].problem:
            raise AudioError(f"{shown(self.path / name)}: {problem}")
        return self._entries[name]


def unpacked_name(name: str) -> str:
    """Return the name of a member as a path below a folder."""
    parts = [part for part in name.replace("\0", "").split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return "/".join(parts)


def read_headers(file: io.BufferedReader) -> Iterator[Entry]:
    """Yield the files and links of a tar file in their order.

    Sizes are compared with the file: a member that it does not hold completely is not yielded.

    Raises
    ------
    AudioError
        When the file is not a tar file, is damaged or ends early; after the members that precede the damage.
    """
    total = file.seek(0, io.SEEK_END)
    at, count = 0, 0
    shared: dict[str, str] = {}
    fields: dict[str, str] = {}
    while (info := _header(file, at, total, count)) is not None:
        content, size = at + BLOCK, info.size
        if info.type in _EXTENDED:
            new = _fields(file, content, size, info.type, count)
            (shared if info.type == tarfile.XGLTYPE else fields).update(new)
            at = content + _blocks(size)
            continue
        known = {**shared, **fields}
        fields = {}
        name, size = known.get("path", info.name), _number(known.get("size"), size)
        if info.type == tarfile.GNUTYPE_SPARSE or size < 0:
            raise AudioError(f"it is damaged or holds a sparse file after {count} files")
        if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
            at = content + _blocks(size)
        else:
            at = content
        if info.isreg() and content + size > total:
            there = f"{max(0, total - content)} of {size} bytes are there"
            raise AudioError(f"it ends in {shown(name)}, after {count} files: {there}; download it again")
        entry = _entry(info, name, known, content, size)
        if entry is not None:
            yield entry
            count += 1


_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of headers that describe the next member, or with ``XGLTYPE`` all that follow."""


def _header(file: io.BufferedReader, at: int, total: int, count: int) -> tarfile.TarInfo | None:
    """Read the header at a byte; None for the end mark."""
    file.seek(at)
    block = file.read(BLOCK)
    after = f"after {count} files"
    if at == 0 and len(block) < BLOCK:
        raise AudioError("it is not a tar file: it is too short")
    if len(block) < BLOCK:
        raise AudioError(f"it ends {after} without an end mark, so it may be truncated; download it again")
    if block == bytes(BLOCK):
        if any(file.read(AFTER_END)):
            raise AudioError(f"it has more bytes after its end mark, {after}; unpack joined archives with tar -i")
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if at == 0:
            raise AudioError("it is not a tar file") from error
        raise AudioError(f"it is damaged {after}, at byte {at}; the files after it are not read") from error


def _entry(info: tarfile.TarInfo, name: str, fields: dict[str, str], content: int, size: int) -> Entry | None:
    """Return the entry of a file or a link; None for a folder or a device."""
    if info.islnk():
        link = fields.get("linkpath", info.linkname)
        return Entry(name, content, 0, link, f"it is a link to {shown(link)}, which does not precede it in the archive")
    if info.issym():
        return Entry(name, content, 0, problem="it is a symbolic link; make the tar file again with --dereference")
    if not info.isreg():
        return None
    if any(key.startswith("GNU.sparse.") for key in fields):
        return Entry(fields.get("GNU.sparse.name", name), content, size, problem=SPARSE)
    return Entry(name, content, size)


def _fields(file: io.BufferedReader, content: int, size: int, kind: bytes, count: int) -> dict[str, str]:
    """Return the fields that an extended header gives to the next member."""
    file.seek(content)
    text = file.read(size) if 0 <= size <= MOST_EXTENDED else b""
    if len(text) < size <= MOST_EXTENDED:
        raise AudioError(f"it ends after {count} files, in a header; download it again")
    damaged = AudioError(f"it is damaged after {count} files, at byte {content}; the files after it are not read")
    if not 0 <= size <= MOST_EXTENDED:
        raise damaged
    if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        long = text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return {"path" if kind == tarfile.GNUTYPE_LONGNAME else "linkpath": long}
    found: dict[str, str] = {}
    at = 0
    while at < size and text[at] != 0:  # "LENGTH KEY=VALUE\n", with the length of all of it
        digits = text[at : at + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        if not len(digits) + 2 < length <= size - at:
            raise damaged
        key, _, value = text[at + len(digits) + 1 : at + length - 1].partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += length
    return found


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else default


def _blocks(size: int) -> int:
    """Return the bytes of whole blocks that hold some bytes."""
    return -(-size // BLOCK) * BLOCK
