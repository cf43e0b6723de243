"""The length of an MP3 file, counted frame by frame.

A header frame ("Xing" or "Info") may state how many frames follow. Without one, decoders estimate the length from the
bit rate of the first frame, which is wrong for variable bit rates. The header of a frame gives its size, so frames are
counted without decoding them.

References: ISO/IEC 11172-3 and 13818-3, layer III; the documentation of the header frame by LAME and mpg123.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III by version (2 stands for 2 and 2.5) and index."""
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Hz by the two version bits and index."""
SEARCHED = 1 << 16
"""The first frame must begin within this number of bytes after the tags (our choice)."""
SLACK = 0.02
"""Relative error of the header frame above which the file counts as truncated or as longer (our choice)."""


class Frame(NamedTuple):
    """One frame's header."""

    size: int
    samples: int
    rate: int
    side: int
    """Bytes between the header and the tag of a header frame."""
    head: bytes


@dataclass(frozen=True)
class Length:
    """How long an MP3 file is.

    Parameters
    ----------
    begin : int
        Byte of the first frame with sound.
    frames : int
        Complete frames.
    announced : int, optional
        Frames that the header frame declares.
    first : Frame
        The first frame's header.
    """

    begin: int
    frames: int
    announced: int | None
    first: Frame

    @property
    def trusted(self) -> bool:
        """Return whether the header frame declares the actual number of frames."""
        return self.announced is not None and abs(self.announced - self.frames) <= max(2, SLACK * self.frames)

    def header_frame(self) -> bytes:
        """Return a header frame with the counted number, to be placed before the first frame with sound."""
        bits = bytearray(self.first.head)
        bits[1] |= 1  # no checksum
        bits[2] = (bits[2] & 0x0F) | (9 << 4)  # a bit rate that leaves space for the tag
        frame = _parse(bytes(bits))
        assert frame is not None
        body = bytes(bits) + bytes(frame.side) + b"Info" + struct.pack(">II", 1, self.frames)
        return body.ljust(frame.size, b"\0")


def measure(content: bytes | memoryview) -> Length | None:
    """Count the frames of a file. Return None when no frame begins near the start: it is not an MP3 file."""
    view = memoryview(content)
    position = _first(view)
    if position is None or (first := _parse(bytes(view[position : position + 4]))) is None:
        return None
    announced, size = _announced(view, position, first)
    if announced is not None:
        if size is not None and abs(len(view) - position - size) <= SLACK * size:
            return Length(
                position + first.size, announced, announced, first
            )  # the file has the declared size: frames are not counted
        position += first.size
    frames, at = 0, position
    while frame := _parse(bytes(view[at : at + 4])):
        if at + frame.size > len(view):
            break
        frames, at = frames + 1, at + frame.size
        if (
            bytes(view[at : at + 4])
            and _parse(bytes(view[at : at + 4])) is None
            and (next_place := _first(view, at)) is not None
        ):
            at = next_place  # damaged bytes, or a tag between two files that were joined
    return Length(position, frames, announced, first)


def _first(view: memoryview, at: int = 0) -> int | None:
    """Return where the first two consecutive frames begin, after tags."""
    while bytes(view[at : at + 3]) == b"ID3" and len(view) >= at + 10:
        size = 0
        for byte in bytes(view[at + 6 : at + 10]):
            size = size << 7 | (byte & 0x7F)
        at += 10 + size
    end = min(len(view), at + SEARCHED)
    while 0 <= (at := bytes(view[at:end]).find(b"\xff") + at) < end and at < len(view) - 3:
        frame = _parse(bytes(view[at : at + 4]))
        if frame is not None and (
            at + frame.size >= len(view) - 4 or _parse(bytes(view[at + frame.size : at + frame.size + 4]))
        ):
            return at
        at += 1
        if b"\xff" not in bytes(view[at:end]):
            return None
    return None


def _announced(view: memoryview, position: int, frame: Frame) -> tuple[int | None, int | None]:
    """Return the frames and bytes that a header frame declares."""
    for side in (frame.side, frame.side + 2):
        tag = bytes(view[position + 4 + side : position + 4 + side + 16])
        if tag[:4] in (b"Xing", b"Info") and len(tag) == 16 and tag[7] & 1:
            return int.from_bytes(tag[8:12], "big"), int.from_bytes(tag[12:16], "big") if tag[7] & 2 else None
    tag = bytes(view[position + 36 : position + 54])
    if tag[:4] == b"VBRI" and len(tag) == 18:
        return int.from_bytes(tag[14:18], "big"), int.from_bytes(tag[10:14], "big")
    return None, None


def _parse(head: bytes) -> Frame | None:
    """Parse the header of a layer III frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, bit_rate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return None
    newest = version == 3
    hertz, kbits = RATES[version][rate], BIT_RATES[1 if newest else 2][bit_rate]
    size = (144 if newest else 72) * 1000 * kbits // hertz + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if newest else (9 if mono else 17)
    return Frame(size, 1152 if newest else 576, hertz, side, head)
