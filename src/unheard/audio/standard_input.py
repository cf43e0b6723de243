"""The standard input of the process as a sound."""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from unheard.audio.decoder import Decoder
from unheard.audio.limits import RATES
from unheard.errors import AudioError

STANDARD_INPUT = "-"
"""Name of the standard input as a sound: a WAV file; ``-@RATE`` are raw samples."""

_WIDTHS = (2, 4)  # bytes of a sample
_UNKNOWN = 0x7FFF0000
"""Bytes: programs that do not know the length of the sound declare 0, or at least this size."""


def is_standard_input(name: str | Path) -> bool:
    """Return whether a name means the standard input; a file with such a name, as ``-@a.wav``, is a file."""
    text = str(name)
    return text == STANDARD_INPUT or (text.startswith(STANDARD_INPUT + "@") and not Path(text).is_file())


class StandardInput(Decoder):
    """The standard input, decoded once: PCM in a WAV file of 16 or 32 bit, or 16-bit little-endian mono samples.

    Parameters
    ----------
    name : str
        ``-`` or ``-@RATE``.
    source : binary file, optional
        Default: the standard input of the process.

    Raises
    ------
    AudioError
        When the rate is not a number in range, or there is no WAV header of such samples.
    """

    def __init__(self, name: str, source: BinaryIO | None = None) -> None:
        self.path, self.note, self.frames, self._source = Path(name), "", 0, source or sys.stdin.buffer
        if name == STANDARD_INPUT:
            self._read_header()
            return
        rate = name.removeprefix(STANDARD_INPUT + "@")
        if not rate.isdecimal() or not RATES[0] <= int(rate) <= RATES[1]:
            raise AudioError(f"{name}: give the rate of the raw samples in Hz, {RATES[0]} to {RATES[1]}, as in -@16000")
        self.sample_rate, self.channels, self.format = int(rate), 1, "RAW"
        self._set_width(2)

    def _read_header(self) -> None:
        advice = "send 16-bit PCM as a WAV file, or raw 16-bit mono samples as -@RATE"
        try:
            header = wave.open(self._source)  # noqa: SIM115 - closing it would close the standard input
        except EOFError as error:
            raise AudioError(f"the standard input is empty or ends in the header of a WAV file; {advice}") from error
        except wave.Error as error:
            raise AudioError(f"the standard input is no WAV file of whole numbers ({error}); {advice}") from error
        width = header.getsampwidth()
        if width not in _WIDTHS:
            raise AudioError(f"the standard input has samples of {8 * width} bits; {advice}")
        self.sample_rate, self.channels = header.getframerate(), header.getnchannels()
        self.format = "WAV"
        self._set_width(width)
        declared = header.getnframes()
        self.frames = declared if 0 < declared * width * self.channels < _UNKNOWN else 0

    def _set_width(self, width: int) -> None:
        """Set the bytes of one sample."""
        self.subtype, self._dtype, self._scale = f"PCM_{8 * width}", np.dtype(f"<i{width}"), 2.0 ** (8 * width - 1)

    def _next(self, count: int) -> Float32[np.ndarray, "S C"]:
        size = self._dtype.itemsize * self.channels
        left = self.frames - self.came if self.frames else count  # other chunks may follow the samples of a WAV file
        content = self._source.read(min(count, left) * size)
        whole = np.frombuffer(content[: len(content) // size * size], self._dtype).reshape(-1, self.channels)
        return whole.astype(np.float32) / np.float32(self._scale)

    def _ended(self) -> None:
        if self.came < self.frames:
            self.note = f"it is truncated: its header declares {self.frames} samples, it holds {self.came}"

    def close(self) -> None:
        """Leave the standard input open."""
