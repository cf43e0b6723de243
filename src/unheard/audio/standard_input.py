"""The standard input of the process as a sound."""

from __future__ import annotations

import struct
import sys
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from unheard.audio.decoder import Decoder
from unheard.audio.limits import RATES
from unheard.errors import AudioError

STANDARD_INPUT = "-"
"""Name of the standard input as a sound: a WAV file; ``-@RATE`` are raw samples."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8)}  # bytes of a sample
_ENCODINGS = {
    0x02: "Microsoft ADPCM",
    0x06: "A-law",
    0x07: "mu-law",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x40: "G.721 ADPCM",
    0x50: "MPEG",
    0x55: "MP3",
    0xFF: "AAC",
    0x2000: "AC-3",
}
"""Names of format tags, for messages."""

_ADVICE = "send integer or float samples as a WAV file, or raw 16-bit mono samples as -@RATE"
_CONVERT = "convert it to samples of 16 bits, as in ffmpeg -i FILE -c:a pcm_s16le -f wav -"
_LONGEST_FORMAT = 1 << 16
"""Bytes of a ``fmt`` chunk; a longer one is damage (our choice)."""


def is_standard_input(name: str | Path) -> bool:
    """Return whether a name means the standard input; a file with such a name, as ``-@a.wav``, is a file."""
    text = str(name)
    return text == STANDARD_INPUT or (text.startswith(STANDARD_INPUT + "@") and not Path(text).is_file())


class StandardInput(Decoder):
    """The standard input, decoded once, as it arrives: a WAV file, or 16-bit little-endian mono samples.

    The samples of a WAV file are integers of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits.

    Parameters
    ----------
    name : str
        ``-`` or ``-@RATE``.
    source : binary file, optional
        Default: the standard input of the process. It is never seeked.

    Raises
    ------
    AudioError
        When the rate is not a number in range, or there is no WAV header of such samples.
    """

    def __init__(self, name: str, source: BinaryIO | BufferedIOBase | None = None) -> None:
        self.path, self.note, self.frames, self._source = Path(name), "", 0, source or sys.stdin.buffer
        self._ends = False  # whether the header declares where the samples end
        if name == STANDARD_INPUT:
            self._read_header()
            return
        rate = name.removeprefix(STANDARD_INPUT + "@")
        if not rate.isdecimal() or not RATES[0] <= int(rate) <= RATES[1]:
            raise AudioError(f"{name}: give the rate of the raw samples in Hz, {RATES[0]} to {RATES[1]}, as in -@16000")
        self.sample_rate, self.channels, self.format, self.subtype = int(rate), 1, "RAW", "PCM_16"
        self._width = 2

    def _read_header(self) -> None:
        """Read the chunks before the samples."""
        if self._bytes(4) not in (b"RIFF", b"RF64", b"BW64") or self._bytes(8)[4:] != b"WAVE":
            raise AudioError(f"the standard input is no WAV file; {_ADVICE}")
        layout, length64 = b"", 0
        while True:
            name, size = struct.unpack("<4sI", self._bytes(8))
            if name == b"data":
                break
            content = self._bytes(size + size % 2, keep=_LONGEST_FORMAT)
            if name == b"fmt ":
                layout = content
            elif name == b"ds64" and len(content) >= 16:  # the lengths of RF64, which may exceed 32 bits
                length64 = struct.unpack("<8xQ", content[:16])[0]
        self._set_layout(layout)
        length = length64 if size == 0xFFFFFFFF and length64 != 0xFFFFFFFFFFFFFFFF else size
        self._ends = not _is_unknown(length)
        self.frames = length // (self._width * self.channels) if self._ends else 0

    def _bytes(self, count: int, keep: int = 1 << 16) -> bytes:
        """Return bytes of the header, at most ``keep`` of them; the others are skipped."""
        kept, left = b"", count
        while left:
            if not (part := self._source.read(min(left, 1 << 16))):
                raise AudioError(f"the standard input is empty or ends in the header of a WAV file; {_ADVICE}")
            kept, left = kept + part[: max(0, keep - len(kept))], left - len(part)
        return kept

    def _set_layout(self, content: bytes) -> None:
        """Set rate, channels and encoding from a ``fmt`` chunk."""
        damaged = AudioError(f"the standard input is a WAV file with a damaged header; {_ADVICE}")
        if len(content) < 16:
            raise damaged
        tag, self.channels, self.sample_rate, _, block, bits = struct.unpack("<HHIIHH", content[:16])
        if tag == _EXTENSIBLE:
            if len(content) < 26:
                raise damaged
            tag = struct.unpack("<H", content[24:26])[0]
        if tag not in _WIDTHS:
            encoding = _ENCODINGS.get(tag, f"format 0x{tag:04x}")
            raise AudioError(f"the standard input is a WAV file encoded as {encoding}; {_CONVERT}")
        self._width = (bits + 7) // 8
        if self._width not in _WIDTHS[tag]:
            kind = "floats" if tag == _FLOAT else "integers"
            raise AudioError(f"the standard input is a WAV file of {bits}-bit {kind}; {_CONVERT}")
        if not self.channels or block != self._width * self.channels:
            raise damaged
        self.format = "WAV"
        integers = "PCM_U8" if self._width == 1 else f"PCM_{8 * self._width}"
        self.subtype = {4: "FLOAT", 8: "DOUBLE"}[self._width] if tag == _FLOAT else integers

    def _next(self, count: int) -> Float32[np.ndarray, "S C"]:
        size = self._width * self.channels
        left = self.frames - self.came if self._ends else count  # other chunks may follow the samples of a WAV file
        content = self._source.read(min(count, left) * size)
        if len(content) % size and not self._ends:
            self.note = "it is truncated: it ends in the middle of a sample"
        return _decoded(content[: len(content) // size * size], self.subtype).reshape(-1, self.channels)

    def _ended(self) -> None:
        if self.came < self.frames:
            self.note = f"it is truncated: its header declares {self.frames} samples, it holds {self.came}"

    def close(self) -> None:
        """Leave the standard input open."""


def _is_unknown(size: int) -> bool:
    """Return whether a program declared this size of the samples because it did not have their number.

    ffmpeg declares 2^32 - 1, sox 2^31 - 4096, arecord 2^31, others 0. The length of the header may be subtracted.
    """
    return size == 0 or 0x7FFF0000 <= size <= 0x80000000 or 0xFFFF0000 <= size <= 0xFFFFFFFF


def _decoded(content: bytes, subtype: str) -> Float32[np.ndarray, " S"]:
    """Return little-endian samples as floats in [-1, 1]."""
    if subtype in ("FLOAT", "DOUBLE"):
        return np.frombuffer(content, "<f4" if subtype == "FLOAT" else "<f8").astype(np.float32)
    if subtype == "PCM_U8":
        return (np.frombuffer(content, np.uint8).astype(np.float32) - np.float32(2**7)) / np.float32(2**7)
    if subtype == "PCM_24":  # the upper bytes of 32-bit integers
        bytes32 = np.zeros((len(content) // 3, 4), np.uint8)
        bytes32[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content, subtype = bytes32.tobytes(), "PCM_32"
    bits = int(subtype.removeprefix("PCM_"))
    return np.frombuffer(content, f"<i{bits // 8}").astype(np.float32) / np.float32(2.0 ** (bits - 1))
