"""Sound that is missing or left out has a note: damaged pages and frames, and headers that declare too few bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.audio.test_decode import RATE, SOUND, ffmpeg, whole

from unheard.audio.waveform import info


def test_a_raw_aac_file_has_its_real_length(tmp_path: Path) -> None:
    pytest.importorskip("av")
    steady = np.concatenate([np.zeros(30 * RATE, np.float32), SOUND])  # a bit rate that varies
    soundfile.write(tmp_path / "a.wav", steady, RATE)
    file = ffmpeg(tmp_path / "a.wav", tmp_path / "a.aac", "-c:a", "aac")
    sound, noted = whole(file)
    assert not noted and len(sound) / RATE == pytest.approx(32, abs=0.2) and info(file).seconds == len(sound) / RATE


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "W64"])
def test_sound_after_the_declared_one_has_a_note(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{kind.lower()}"
    soundfile.write(file, SOUND, RATE, format=kind, subtype="PCM_16")
    assert not whole(file)[1]
    with file.open("ab") as more:
        more.write(bytes(100))
    assert not whole(file)[1]
    with file.open("ab") as more:
        more.write(np.random.default_rng(0).integers(128, 256, 60_000).astype(np.uint8).tobytes())
    noted = whole(file)[1]
    assert len(noted) == 1 and re.search(r"too few bytes of audio: 60\d\d\d more follow and are not read", noted[0])


def test_a_damaged_file_that_declares_no_length_has_a_note(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.tile(SOUND, 4), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] & 0xF0]) + bytes(4)  # the number of samples
    (tmp_path / "unknown.flac").write_bytes(content)
    sound, noted = whole(tmp_path / "unknown.flac")
    assert len(sound) == 8 * RATE and not noted
    (tmp_path / "bad.flac").write_bytes(content[: len(content) // 2] + bytes(200) + content[len(content) // 2 + 200 :])
    sound, noted = whole(tmp_path / "bad.flac")
    assert 0 < len(sound) < 8 * RATE and "is damaged after" in noted[0]


@pytest.mark.parametrize("place", [0, 150])
@pytest.mark.parametrize("page", [-1, -3])
def test_a_damaged_page_of_ogg_has_a_note(page: int, place: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", np.tile(SOUND, 8), RATE)
    content = bytearray((tmp_path / "a.ogg").read_bytes())
    begin = [found.start() for found in re.finditer(b"OggS", content)][page]
    content[begin + place] ^= 0xFF
    (tmp_path / "a.ogg").write_bytes(content)
    sound, noted = whole(tmp_path / "a.ogg")
    assert 0 < len(sound) < 16 * RATE and noted
