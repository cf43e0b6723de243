"""Compare the length that the container of a sound file declares with the file.

Decoders trust the header. For a truncated file they report the rest as if it were there. For a file whose header was
never completed they report nothing. `inspect` reads the headers of wav (RIFF, RF64, W64), aiff, au, flac and ogg files
and counts the frames of mp3 files. Truncated files are reported, and wrong sizes are corrected before decoding.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.audio import flac
from unheard.audio.archives.archive import ReadOnly, mapped
from unheard.audio.archives.members import byte_size, open_bytes
from unheard.audio.mpeg import measure

UNKNOWN = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""Sizes that programs write before they know the size, and leave in the file when they are interrupted."""

IGNORED = 4096
"""Bytes after the declared sound for which there is a note (our choice)."""


@dataclass
class Container:
    """Result of `inspect`.

    Parameters
    ----------
    note : str
        A note for the user, for example that the file is truncated; may be empty.
    head : bytes
        Bytes that replace the first ``skip`` bytes; both are empty when the header is correct.
    frames : int, optional
        Samples per channel of an mp3 or flac file whose header does not state them, or states a wrong number.
    sound : bool
        False when the file cannot be of the format that its suffix names.
    """

    note: str = ""
    head: bytes = b""
    skip: int = 0
    frames: int | None = None
    sound: bool = True


def inspect(path: Path) -> Container:
    """Compare the header of a sound file with the file.

    Raises
    ------
    OSError, AudioError
        When it cannot be read.
    """
    size, suffix = byte_size(path), path.suffix.lower()
    with open_bytes(path) as file:
        begin = file.read(12)
        if begin[:4] in (b"RIFF", b"RF64") and begin[8:] == b"WAVE":
            return _wav(file, size)
        if begin[:4] == b"FORM" and begin[8:] in (b"AIFF", b"AIFC"):
            return _aiff(file, size)
        if begin[:4] == b".snd":
            return _au(file, size)
        if begin == _W64_RIFF[:12]:
            return _w64(file, size)
        if begin[:4] == b"fLaC":
            return _flac(file, size)
        if begin[:4] == b"OggS":
            return _ogg(file, size)
        if suffix == ".mp3" or (not suffix and _MP3.match(begin)):  # a row of a parquet file may lack a name
            return _mp3(file, size)
    return Container()


def _wav(file: io.BufferedReader, size: int) -> Container:
    announced64 = None
    for name, length, at in _chunks(file, "<I", size):
        if name == b"ds64":
            file.seek(at)
            announced64 = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
            announced64 = None if announced64 in UNKNOWN else announced64
        if name != b"data":
            continue
        there = size - at
        if length in UNKNOWN and announced64 is None and there and not _continues(file, at, size, length):
            file.seek(0)
            head = bytearray(file.read(at))
            most = min(there, 0xFFFFFFFF - at)
            head[:4], head[4:8], head[at - 4 : at] = b"RIFF", struct.pack("<I", at - 8 + most), struct.pack("<I", most)
            return Container("its header was never completed; the file is read to its end", bytes(head), at)
        wanted = announced64 if announced64 is not None and length == 0xFFFFFFFF else length
        return Container(_cut(wanted, there) or _ignored(file, "<I", size, at + wanted))
    return Container()


def _continues(file: io.BufferedReader, at: int, size: int, length: int) -> bool:
    """Return whether a data chunk of size 0 is really empty: another chunk follows, and the chunks fill the file."""
    if length:
        return False
    file.seek(at)
    name = file.read(4)
    return (
        len(name) == 4 and name.isalnum() and sum(8 + each for _, each, _ in _chunks(file, "<I", size, at)) == size - at
    )


def _aiff(file: io.BufferedReader, size: int) -> Container:
    for name, length, at in _chunks(file, ">I", size):
        if name == b"SSND":
            note = "" if length in UNKNOWN else _cut(length, size - at) or _ignored(file, ">I", size, at + length)
            return Container(note)
    return Container()


def _au(file: io.BufferedReader, size: int) -> Container:
    file.seek(4)
    at, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
    note = "" if length in UNKNOWN else _cut(length, max(0, size - at)) or _ignored(file, "", size, at + length)
    return Container(note)


_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"


def _w64(file: io.BufferedReader, size: int) -> Container:
    """Read the chunks of a Sony Wave64 file.

    A chunk begins with 16 bytes of name and 8 bytes of length, which include these 24. Each chunk begins at a multiple
    of 8.
    """
    at, note = 40, ""
    while at + 24 <= size:
        file.seek(at)
        name, length = file.read(16), struct.unpack("<Q", file.read(8))[0]
        if name == _W64_DATA:
            note = "" if length in UNKNOWN else _cut(length - 24, size - at - 24)
        if length < 24:
            break
        at += length + -length % 8
    return Container(note or _rest(at, size))


def _ogg(file: io.BufferedReader, size: int) -> Container:
    """Check that the last page of an ogg file ends the stream, and that the file holds one stream only.

    Chained streams should have different serial numbers (RFC 3533, section 4). A file appended to itself has one serial
    number for both, so a first page after other pages is taken as a new stream.
    """
    file.seek(max(0, size - (1 << 17)))
    tail = file.read()
    last = tail.rfind(b"OggS")
    if last < 0 or len(tail) <= last + 5 or not tail[last + 5] & 4:
        return Container("it is truncated: its last page does not end the stream")
    if not _page_is_whole(tail[last:]):
        return Container("its last page is damaged; some of its sound is missing")
    begun, kind, end = False, 0, 0
    for page in _ogg_pages(file):
        kind, end = page
        if begun and kind & 2:
            return Container(
                "it holds several streams one after another, and only the first is read; decode and join them to"
                " get all"
            )
        begun |= not kind & 2
    damaged = end < size and not kind & 4  # something else may follow the last page
    return Container(f"it is damaged after {end} of its {size} bytes; some of its sound is missing" if damaged else "")


def _page_is_whole(content: bytes) -> bool:
    """Return whether the page at the begin of ``content`` is there and agrees with its CRC-32 (RFC 3533, section 6)."""
    body = 27 + content[26] if len(content) > 26 else 27
    page = content[: body + sum(content[27:body])]
    there = body <= len(content) and len(page) == body + sum(content[27:body])
    return there and flac.crc(page[:22] + bytes(4) + page[26:], 0x04C11DB7, 32) == int.from_bytes(page[22:26], "little")


def _ogg_pages(file: io.BufferedReader) -> Iterator[tuple[int, int]]:
    """Yield the header type and the end of every page up to the first damaged one: the type is 2 in the first page of a
    stream, 4 in its last.
    """
    with mapped(file) as content:
        at = 0
        while bytes(content[at : at + 4]) == b"OggS" and at + 27 <= len(content):
            kind, segments = content[at + 5], at + 27 + content[at + 26]
            at = segments + sum(content[at + 27 : segments])
            yield kind, at


def _flac(file: io.BufferedReader, size: int) -> Container:
    announced, there = flac.measure(file, size) or (0, 0)
    if there == announced:
        return Container()
    return Container(f"it is truncated: its header declares {announced} samples, it holds {there}", frames=there)


_MP3 = re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
"""Begin of an mp3 file: a tag, or a frame of layer III."""


def _mp3(file: io.BufferedReader, size: int) -> Container:
    if not size:
        return Container(sound=False)
    with mapped(file) as view:
        length = measure(view)
    if length is None:
        return Container(sound=False)
    if length.trusted:
        return Container()
    note = ""
    if length.announced is not None and length.announced > length.frames:
        note = f"it is truncated: its header declares {length.announced} frames, it holds {length.frames}"
    return Container(note, length.header_frame(), length.begin, length.frames * length.first.samples)


def _chunks(file: io.BufferedReader, kind: str, size: int, at: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the size and the first byte of every chunk."""
    while at + 8 <= size:
        file.seek(at)
        name, length = file.read(4), struct.unpack(kind, file.read(4))[0]
        yield name, length, at + 8
        at += 8 + length + length % 2


def _cut(announced: int, there: int) -> str:
    if there >= announced:
        return ""
    return f"it is truncated: its header declares {announced} bytes of audio, it holds {there}"


def _ignored(file: io.BufferedReader, kind: str, size: int, at: int) -> str:
    """Return a note about bytes after the declared sound that are no chunks; ``kind`` is empty where none follow."""
    at += at % 2 if kind else 0
    for name, length, begin in _chunks(file, kind, size, at) if kind else ():
        if not name.isascii() or not name.decode("ascii").isprintable() or begin + length > size:
            break
        at = begin + length + length % 2
    return _rest(at, size)


def _rest(at: int, size: int) -> str:
    if size - at < IGNORED:
        return ""
    return f"its header declares too few bytes of audio: {size - at} more follow and are not read; decode it again"


class Patched(ReadOnly):
    """A file with a corrected header: ``head`` is read in place of its first ``skip`` bytes."""

    def __init__(self, file: io.BufferedReader, head: bytes, skip: int) -> None:
        super().__init__(file, len(head) + file.seek(0, os.SEEK_END) - skip)
        self.head, self.skip = head, skip

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        if self.position < len(self.head):
            data = self.head[self.position : self.position + len(buffer)]
        else:
            self.file.seek(self.skip + self.position - len(self.head))
            data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
