"""Count the samples of a flac file from its last frame.

The header declares the samples of the complete file, even when the file was truncated later. A frame begins with a
header that holds its number and a CRC-8, and ends with a CRC-16 (RFC 9639, section 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BufferedReader

INFO = 42
"""Bytes up to the end of STREAMINFO, the first block of every file."""

TAIL = 1 << 18
"""Bytes at the end that are searched where the file does not state its largest frame (our choice)."""

_SIZES = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


@dataclass(frozen=True)
class StreamInfo:
    """Content of the first block of a file.

    Parameters
    ----------
    block : int
        Samples of a frame, the largest number of them.
    frame_bytes : int
        Bytes of the largest frame; 0 where it is not known.
    channels, bits : int
    samples : int
        Per channel; 0 where it is not known.
    """

    block: int
    frame_bytes: int
    channels: int
    bits: int
    samples: int


def measure(file: BufferedReader, size: int) -> tuple[int, int] | None:
    """Return the declared and the actual number of samples per channel of a flac file.

    A file of which only the last frame is damaged counts as complete. To detect that, the file must be decoded.

    Parameters
    ----------
    file : BufferedReader
    size : int
        Bytes of the file.

    Returns
    -------
    tuple of int, optional
        None when the file declares nothing, or no frame is found near its end.
    """
    file.seek(0)
    info = _stream_info(file.read(INFO))
    if info is None or not info.samples:
        return None
    begin = max(INFO, size - (2 * info.frame_bytes or TAIL))
    file.seek(begin)
    tail = file.read()
    for at in _syncs(tail):
        if (frame := _frame(tail[at : at + 16], info)) is None:
            continue
        first, samples = frame
        if first + samples > info.samples:
            continue
        complete = first + samples == info.samples or crc(tail[at:-2], 0x8005, 16) == int.from_bytes(tail[-2:])
        return info.samples, first + samples if complete else first
    return None


def _stream_info(begin: bytes) -> StreamInfo | None:
    if len(begin) < INFO or begin[:4] != b"fLaC" or begin[4] & 0x7F:
        return None
    packed = int.from_bytes(begin[18:26])
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    return StreamInfo(
        int.from_bytes(begin[10:12]), int.from_bytes(begin[15:18]), channels, bits, packed & (1 << 36) - 1
    )


def _syncs(tail: bytes) -> Iterator[int]:
    """Yield the positions where frames may begin, the last first."""
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            yield at


def _frame(header: bytes, info: StreamInfo) -> tuple[int, int] | None:
    """Return the first sample and the number of samples of a frame; None for an invalid header or one of another
    stream.
    """
    if len(header) < 16:
        header = header.ljust(16, b"\0")
    size_code, rate_code, channel_code, bits_code = header[2] >> 4, header[2] & 15, header[3] >> 4, header[3] >> 1 & 7
    channels = 2 if channel_code >= 8 else channel_code + 1
    if not size_code or rate_code == 15 or channel_code > 10 or bits_code == 3 or header[3] & 1:
        return None
    if channels != info.channels or _BITS.get(bits_code, info.bits) != info.bits:
        return None
    first = header[4]
    more = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if first >= 0x80 and not 1 <= more <= 6:
        return None
    number = first if not more else first & (1 << (6 - more)) - 1
    for byte in header[5 : 5 + more]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 63
    at = 5 + more
    extra = {6: 1, 7: 2}.get(size_code, 0)
    samples = _SIZES.get(size_code) or int.from_bytes(header[at : at + extra]) + 1
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(header) or crc(header[:at], 0x07, 8) != header[at] or samples > info.block:
        return None
    return number if header[1] & 1 else number * info.block, samples


@cache
def _table(polynomial: int, bits: int) -> list[int]:
    """Return the check value of every byte."""
    table = []
    for value in range(256):
        rest = value << (bits - 8)
        for _ in range(8):
            rest = rest << 1 ^ (polynomial if rest >> (bits - 1) & 1 else 0)
        table.append(rest & (1 << bits) - 1)
    return table


def crc(content: bytes, polynomial: int, bits: int) -> int:
    """Return the cyclic redundancy check of some bytes, starting from 0, most significant bit first."""
    table, rest, mask = _table(polynomial, bits), 0, (1 << bits) - 1
    for byte in content:
        rest = (rest << 8 ^ table[rest >> (bits - 8) ^ byte]) & mask
    return rest
