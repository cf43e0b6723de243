"""A part of a file, and a file in blocks, hold the samples of the whole file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard.audio.frontend import MSM_MAE_16K
from unheard.audio.frontend_kinds import build_frontend
from unheard.audio.waveform import read, read_channels, stream

FORMATS: dict[str, tuple[int, dict[str, str]]] = {
    "16.wav": (44100, {"subtype": "PCM_16"}),
    "adpcm.wav": (22050, {"subtype": "IMA_ADPCM"}),
    "gsm.wav": (8000, {"subtype": "GSM610"}),  # libsndfile cannot seek in it
    "a.flac": (44100, {}),
    "low.ogg": (8000, {}),
    "high.ogg": (44100, {}),
    "a.opus": (48000, {"format": "OGG", "subtype": "OPUS"}),
    "low.opus": (8000, {"format": "OGG", "subtype": "OPUS"}),
    "a.mp3": (44100, {}),
    "a.aiff": (48000, {}),
}
SECONDS = 3.3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray, int]]:
    """Noise whose level changes, in every format: path, decoded samples (C, S), rate."""
    folder, found = tmp_path_factory.mktemp("parts"), {}
    for name, (rate, options) in FORMATS.items():
        n, channels = round(SECONDS * rate), 1 if "gsm" in name else 2
        level = 0.1 + 0.09 * np.sin(np.arange(n) / rate * 5)[:, None]
        wav = (level * np.random.default_rng(n).standard_normal((n, channels))).astype(np.float32)
        with soundfile.SoundFile(folder / name, "w", rate, channels, **options) as file:
            for block in np.array_split(wav, 10):  # libsndfile crashes where much vorbis is written at once
                file.write(block)
        found[name] = (folder / name, *read_channels(folder / name))
    return found


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15)
@given(data=st.data())
def test_a_part_is_a_slice_of_the_whole(
    name: str, data: st.DataObject, files: dict[str, tuple[Path, np.ndarray, int]]
) -> None:
    path, whole, rate = files[name]
    count = whole.shape[1]
    first = data.draw(st.integers(0, count - 1) | st.integers(count - 3000, count - 1))
    length = data.draw(st.none() | st.integers(1, count))
    seconds = None if length is None else length / rate
    part, _ = read_channels(path, first / rate, seconds)
    wanted = whole[:, first : None if length is None else first + length]
    assert np.array_equal(part, wanted)
    mono, new_rate = read(path, 16000, start=first / rate, seconds=seconds)
    resampled = wanted.mean(axis=0) if rate == 16000 else soxr.resample(wanted.mean(axis=0), rate, 16000, quality="HQ")
    assert new_rate == 16000 and len(mono) == max(1, len(resampled))
    assert not len(resampled) or np.abs(mono - resampled).max() < 1e-6


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8)
@given(
    block=st.floats(0.02, 4.0),
    rate=st.sampled_from([None, 16000, 44100]),
    channel=st.sampled_from(["mix", "left", "right"]),
)
def test_blocks_laid_end_to_end_are_the_whole(
    name: str, block: float, rate: int | None, channel: str, files: dict[str, tuple[Path, np.ndarray, int]]
) -> None:
    path = files[name][0]
    whole, _ = read(path, rate, channel)  # type: ignore[arg-type]
    streamed = np.concatenate(list(stream(path, rate, block, channel)))  # type: ignore[arg-type]
    assert streamed.shape == whole.shape and np.abs(streamed - whole).max() < 1e-6


@pytest.mark.parametrize("name", FORMATS)
def test_the_spectrogram_of_blocks_is_that_of_the_whole(
    name: str, files: dict[str, tuple[Path, np.ndarray, int]]
) -> None:
    frontend, path = build_frontend(MSM_MAE_16K), files[name][0]
    whole = frontend.spectrogram_cpu(read(path, 16000)[0])
    for block in (0.05, 0.7):
        streamed = np.concatenate(list(frontend.stream(stream(path, 16000, block))))
        assert streamed.shape == whole.shape and np.abs(streamed - whole).max() < 2e-3


def test_the_last_page_of_a_long_vorbis_file_is_read_in_its_place(tmp_path: Path) -> None:
    """Longer than the end of a file that is always decoded, so that the decoder seeks."""
    rate, rng = 16000, np.random.default_rng(0)
    with soundfile.SoundFile(tmp_path / "a.ogg", "w", rate, 1) as file:
        for _ in range(130):
            file.write((0.1 * rng.standard_normal(rate)).astype(np.float32))
        file.write((0.1 * rng.standard_normal(333)).astype(np.float32))
    whole, _ = read(tmp_path / "a.ogg")
    for first in (20000, 36 * rate, 38 * rate + 1, 90 * rate, 129 * rate, len(whole) - 400, len(whole) - 1):
        assert np.array_equal(read(tmp_path / "a.ogg", start=first / rate, seconds=0.05)[0], whole[first : first + 800])
