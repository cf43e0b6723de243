"""Every format, rate and channel layout gives the same mono waveform; broken files are refused with a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.folders import find_audio
from unheard.audio.waveform import from_array, info, read, stream
from unheard.errors import AudioError, DataError

RATE = 44100


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def stereo(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.stack([tone(seconds, rate), 0.5 * tone(seconds, rate, 1000.0)], axis=1)


FORMATS = {
    "8.wav": {"subtype": "PCM_U8"},
    "16.wav": {"subtype": "PCM_16"},
    "24.wav": {"subtype": "PCM_24"},
    "32.wav": {"subtype": "PCM_32"},
    "float.wav": {"subtype": "FLOAT"},
    "a.flac": {},
    "a.ogg": {},
    "a.mp3": {},
    "a.aiff": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_reads_every_format_at_another_rate(name: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, stereo(), RATE, **FORMATS[name])
    wav, rate = read(tmp_path / name, 16000)
    wanted = stereo(rate=16000).mean(axis=1)
    assert rate == 16000
    assert wav.dtype == np.float32
    assert len(wav) == pytest.approx(16000, abs=1)
    assert np.abs(wav[500:15000] - wanted[500:15000]).max() < 0.02


def test_reads_opus(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.opus", tone(rate=48000), 48000, format="OGG", subtype="OPUS")
    wav, _ = read(tmp_path / "a.opus", 16000)
    assert abs(len(wav) - 16000) < 20
    assert np.abs(np.fft.rfft(wav)).argmax() == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [8012, 22100, 128000])
def test_odd_rates_keep_pitch_and_length(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate=rate), rate)
    wav, _ = read(tmp_path / "a.wav", 16000)
    assert len(wav) == pytest.approx(16000, abs=1)
    assert np.abs(np.fft.rfft(wav)).argmax() == pytest.approx(440, abs=1)


@pytest.mark.parametrize(("channel", "wanted"), [("mix", 0.2), ("left", 0.1), ("right", 0.2), ("mid", 0.15)])
def test_channels(channel: str, wanted: float, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(np.float32([0.1, 0.2, 0.3]), (100, 1)), 16000, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "a.wav", channel=channel)[0], wanted)
    assert np.allclose(from_array(np.tile(np.float32([[0.1], [0.2], [0.3]]), 100), 16000, channel=channel), wanted)
    soundfile.write(tmp_path / "mono.wav", np.full(100, 0.25, np.float32), 16000)
    assert np.allclose(read(tmp_path / "mono.wav", channel=channel)[0], 0.25)


def test_reads_a_part(tmp_path: Path) -> None:
    whole = np.arange(RATE, dtype=np.float32) / RATE
    for name in ("a.wav", "a.mp3"):
        soundfile.write(tmp_path / name, whole, RATE, **({"subtype": "FLOAT"} if name == "a.wav" else {}))
        decoded, _ = read(tmp_path / name)
        part, _ = read(tmp_path / name, start=0.25, seconds=0.5)
        assert np.array_equal(part, decoded[RATE // 4 : RATE // 4 + RATE // 2])
        with pytest.raises(AudioError, match=r"starts at 2 s.*lasts 1\.000 s"):
            read(tmp_path / name, start=2.0)


@given(
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    samples=st.integers(1, 30000),
    block=st.floats(0.01, 1.0),
    name=st.sampled_from(["a.wav", "a.flac", "a.mp3"]),
)
def test_stream_equals_read(
    tmp_path_factory: pytest.TempPathFactory, rate: int, samples: int, block: float, name: str
) -> None:
    path = tmp_path_factory.mktemp("stream") / name
    soundfile.write(path, np.random.default_rng(samples).normal(0, 0.1, samples), rate)
    whole, _ = read(path, 16000)
    streamed = np.concatenate(list(stream(path, 16000, block)))
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 1e-6


def test_stream_needs_no_more_than_a_block(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(5.0), RATE)
    assert max(len(block) for block in stream(tmp_path / "a.flac", 16000, block_seconds=0.5)) < 0.7 * 16000


def test_one_sample_stays_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.float32([0.5]), 44100)
    assert len(read(tmp_path / "a.wav", 16000)[0]) == 1
    assert sum(len(block) for block in stream(tmp_path / "a.wav", 16000)) == 1


def broken(folder: Path) -> dict[str, str]:
    """Files that are not usable sound, and a word of the reason."""
    (folder / "text.mp3").write_text("not music\n" * 300)
    (folder / "text.wav").write_text("not music")
    (folder / "nothing.flac").write_bytes(b"")
    soundfile.write(folder / "empty.wav", np.empty(0), 16000)
    return {
        "text.mp3": "not a sound file",
        "text.wav": "not a sound file",
        "nothing.flac": "not a sound file",
        "empty.wav": "holds no samples",
        "missing.wav": "no such file",
    }


@pytest.mark.parametrize("name", ["text.mp3", "text.wav", "nothing.flac", "empty.wav", "missing.wav"])
def test_broken_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    reason = broken(tmp_path)[name]
    with pytest.raises(AudioError, match=reason) as caught:
        read(tmp_path / name, 16000)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match=reason):
        list(stream(tmp_path / name, 16000))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_with_their_place(value: float, tmp_path: Path) -> None:
    wav = tone()
    wav[22050] = value
    soundfile.write(tmp_path / "bad.wav", wav, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"bad\.wav.*0\.500 s"):
        read(tmp_path / "bad.wav", 16000)
    with pytest.raises(AudioError, match=r"0\.500 s"):
        list(stream(tmp_path / "bad.wav", 16000, block_seconds=0.2))
    with pytest.raises(AudioError, match=r"0\.500 s"):
        from_array(wav, RATE)


def test_info_tells_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", stereo(), RATE, subtype="PCM_24")
    found = info(tmp_path / "a.wav")
    assert (found.seconds, found.sample_rate, found.channels, found.frames) == (1.0, RATE, 2, RATE)
    assert (found.format, found.subtype) == ("WAV", "PCM_24")


def test_integer_arrays_are_scaled() -> None:
    assert from_array(np.int16([-32768, 16384]), 16000).tolist() == [-1.0, 0.5]
    assert from_array(np.int32([-(2**31), 2**30]), 16000).tolist() == [-1.0, 0.5]


def test_arrays_are_resampled() -> None:
    assert len(from_array(tone(), RATE, 16000)) == 16000


@pytest.mark.parametrize(
    "wav",
    [np.zeros((2, 2, 2)), np.zeros(0), np.zeros((48000, 2)), np.zeros(9, np.int8), np.zeros(9, bool), np.array(["a"])],
)
def test_arrays_that_are_no_waveform_are_refused(wav: object) -> None:
    with pytest.raises(AudioError, match=r"give"):
        from_array(wav, 16000)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(AudioError, match="has a sample rate of 0;"):
        from_array(tone(), 0)


def test_find_audio_is_sorted_and_leaves_out_the_rest(tmp_path: Path) -> None:
    for name in ("b/2.WAV", "b/10.flac", "a.mp3", "notes.txt", ".hidden.wav", ".git/x.wav", "b/labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)] == ["a.mp3", "b/10.flac", "b/2.WAV"]


def test_find_audio_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_audio(tmp_path / "nowhere")
