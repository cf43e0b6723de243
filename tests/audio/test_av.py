"""Formats that FFmpeg decodes, with the extra av: the sound is whole, or has a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.audio.test_decode import RATE, SOUND, ffmpeg, whole

from unheard.audio.waveform import info, read
from unheard.errors import AudioError


@pytest.mark.parametrize(
    ("end", "options"),
    [("m4a", ("-c:a", "aac")), ("webm", ("-c:a", "libopus", "-ar", "48000")), ("mp4", ("-c:a", "aac", "-ac", "2"))],
)
def test_other_formats_come_with_the_extra_av(end: str, options: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("av")
    soundfile.write(tmp_path / "a.wav", SOUND, RATE)
    file = ffmpeg(tmp_path / "a.wav", tmp_path / f"a.{end}", *options)
    sound, noted = whole(file)
    rate = info(file).sample_rate
    assert (
        not noted
        and len(sound) / rate == pytest.approx(2, abs=0.15)
        and info(file).seconds == pytest.approx(2, abs=0.15)
    )
    assert np.std(sound) == pytest.approx(np.std(SOUND), rel=0.4)  # FFmpeg makes two channels 3 dB quieter
    part = read(file, start=0.5, seconds=1.0)[0]
    assert np.array_equal(part, sound[rate // 2 : rate // 2 + rate])
    (tmp_path / f"cut.{end}").write_bytes(file.read_bytes()[:200])
    with pytest.raises(AudioError, match=f"cut.{end}"):
        read(tmp_path / f"cut.{end}")


def test_a_webm_that_is_cut_in_the_middle_has_a_note(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    _write_opus(av, tmp_path / "a.webm", 6.0)
    assert not whole(tmp_path / "a.webm")[1]
    content = (tmp_path / "a.webm").read_bytes()
    (tmp_path / "cut.webm").write_bytes(content[: len(content) // 2])  # FFmpeg ends there without an error
    sound, (note,) = whole(tmp_path / "cut.webm")
    assert 2 < len(sound) / 48000 < 4 and "it is truncated: its header declares" in note


def _write_opus(av: Any, path: Path, seconds: float) -> None:
    """Write a tone with the encoder of PyAV."""
    tone = (0.3 * np.sin(np.arange(round(48000 * seconds)) * 0.06)).astype(np.float32)
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        kind, size = stream.codec_context.format or "fltp", stream.codec_context.frame_size or None
        resampler = av.AudioResampler(format=kind, layout="mono", rate=48000, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
