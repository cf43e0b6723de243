"""Sounds on the standard input."""

from __future__ import annotations

import io
import struct

import pytest

from unheard.audio.decode import open_sound
from unheard.errors import AudioError


@pytest.mark.parametrize("rate", [0, 1, 4_000_000_000])
def test_a_rate_out_of_range_is_refused(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate % 2**32, 2, 16)
    chunks = b"WAVEfmt " + header + b"data" + struct.pack("<I", 64) + bytes(64)
    file = io.BytesIO(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
    with pytest.raises(AudioError, match=f"its header states {rate} Hz; accepted are 100 to 1000000 Hz"):
        open_sound("-")
