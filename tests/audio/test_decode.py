"""Decoding of imperfect files: truncated, wrong headers, unusual names, rates and levels."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from unheard.audio.decode import open_sound
from unheard.audio.folders import find_audio
from unheard.audio.limits import LOUDEST
from unheard.audio.mpeg import measure
from unheard.audio.waveform import checked_rate, from_array, info, read, stream
from unheard.errors import AudioError, AudioWarning, shown, utf8

RATE = 16000
SOUND = (0.3 * np.sin(np.arange(2 * RATE) * 0.2) + 0.05 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(
    np.float32
)


def chunk(name: bytes, data: bytes, size: int | None = None, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(data) if size is None else size) + data


def wav(data_size: int | None = None, riff_size: int | None = None, tail: bytes = b"", rate: int = RATE) -> bytes:
    pcm, fmt = (SOUND * 32767).astype("<i2").tobytes(), struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    body = b"WAVE" + chunk(b"fmt ", fmt) + chunk(b"LIST", b"INFOISFT") + chunk(b"data", pcm, data_size) + tail
    return chunk(b"RIFF", body, riff_size)


def whole(path: Path) -> tuple[np.ndarray, list[str]]:
    """The sound of a file, which reading at once and in blocks agree on, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sound = read(path)[0]
        assert np.array_equal(sound, np.concatenate(list(stream(path, block_seconds=0.37))))
    texts = [str(warning.message) for warning in caught]
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]
    return sound, texts[: len(texts) // 2]


def ffmpeg(source: Path, target: Path, *options: str) -> Path:
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(source), *options, str(target)], check=True
    )
    return target


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF], ids=["zero", "all ones"])
def test_a_header_that_was_never_completed(size: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(size, size))
    sound, noted = whole(tmp_path / "a.wav")
    assert len(sound) == 2 * RATE and info(tmp_path / "a.wav").seconds == 2
    assert np.allclose(sound, SOUND, atol=1e-4)
    assert "never completed" in noted[0] and "remove" not in noted[0]


def test_a_wav_file_with_other_chunks_behind_the_sound_is_right(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tail=chunk(b"id3 ", b"x" * 100)))
    sound, noted = whole(tmp_path / "a.wav")
    assert len(sound) == 2 * RATE and not noted


def test_a_wav_file_without_sound_is_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="holds no samples$"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("end", ["wav", "flac", "ogg", "aiff", "mp3"])
@pytest.mark.parametrize("part", [0.5, 0.77])
def test_a_file_that_was_cut_is_used_and_named(end: str, part: float, tmp_path: Path) -> None:
    long = np.tile(SOUND, 4)  # some pages of ogg
    soundfile.write(tmp_path / f"whole.{end}", long, RATE)
    content, (decoded, noted) = (tmp_path / f"whole.{end}").read_bytes(), whole(tmp_path / f"whole.{end}")
    assert not noted and len(decoded) == pytest.approx(8 * RATE, abs=1200)
    (tmp_path / f"cut.{end}").write_bytes(content[: round(part * len(content))])
    sound, noted = whole(tmp_path / f"cut.{end}")
    assert part * 0.6 * len(decoded) < len(sound) <= len(decoded) * min(1.0, part + 0.15)
    assert len(noted) == 1 and "is truncated" in noted[0] and f"cut.{end}" in noted[0]


@pytest.mark.parametrize(
    "options", [("-q:a", "3"), ("-q:a", "9", "-ar", "8000"), ("-b:a", "64k"), ("-q:a", "4", "-ac", "2", "-ar", "44100")]
)
@pytest.mark.parametrize("header", [True, False])
def test_an_mp3_file_is_read_to_its_end_with_and_without_a_header(
    options: tuple[str, ...], header: bool, tmp_path: Path
) -> None:
    quiet = np.concatenate(
        [0.3 * np.random.default_rng(1).standard_normal(4 * RATE), 0.01 * np.sin(np.arange(16 * RATE) * 0.118)]
    )
    soundfile.write(tmp_path / "a.wav", quiet.astype(np.float32).clip(-1, 1), RATE)
    file = ffmpeg(tmp_path / "a.wav", tmp_path / "a.mp3", *options, *(() if header else ("-write_xing", "0")))
    sound, noted = whole(file)
    assert not noted
    assert len(sound) / info(file).sample_rate == pytest.approx(20, abs=0.2)
    assert info(file).seconds == pytest.approx(20, abs=0.2)
    found = measure(file.read_bytes())
    assert found is not None and found.trusted == header


def test_two_mp3_files_behind_each_other_are_one_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", SOUND, RATE)
    one = ffmpeg(tmp_path / "a.wav", tmp_path / "a.mp3").read_bytes()
    (tmp_path / "two.mp3").write_bytes(one + one)
    assert len(whole(tmp_path / "two.mp3")[0]) / RATE == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("content", [b"", b"no sound", b"\xff" * 3000, b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f", bytes(5000)])
def test_no_mp3_file_is_refused_without_remarks(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    assert measure(content) is None
    with pytest.raises(AudioError, match="not a sound file"):
        read(tmp_path / "a.mp3")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [1, 99, 1_000_001, 2**31 - 1])
def test_absurd_sample_rates_are_refused_at_once(rate: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(rate=rate))
    for reader in (read, info, lambda path: list(stream(path))):
        with pytest.raises(AudioError, match=f"its header states {rate} Hz"):
            reader(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), None, "16000", 0, -1, 16000.5, True, 10**9])
def test_an_array_needs_a_rate_that_is_one(rate: object) -> None:
    with pytest.raises(AudioError, match="give the sample rate of the array in whole Hz"):
        checked_rate(rate, "an array")


@pytest.mark.parametrize("value", [LOUDEST * 1.01, 1e20, 3e38, -1e30, np.nan, -np.inf])
def test_samples_that_are_no_sound_are_refused(value: float, tmp_path: Path) -> None:
    odd = SOUND.copy()
    odd[100] = value
    soundfile.write(tmp_path / "a.wav", odd, RATE, "FLOAT")
    for reader in (read, lambda path: list(stream(path, 8000)), lambda path: from_array(odd, RATE)):
        with pytest.raises(AudioError, match=r"the first at 0\.006 s"):
            reader(tmp_path / "a.wav")


def test_loud_floats_are_sound_and_integers_in_floats_are_not(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 20 * SOUND, RATE, "FLOAT")
    assert np.array_equal(read(tmp_path / "loud.wav")[0], 20 * SOUND)
    soundfile.write(tmp_path / "integers.wav", 32767 * SOUND, RATE, "FLOAT")
    with pytest.raises(AudioError, match="look like 16-bit integers stored as floats; divide them by 32768"):
        read(tmp_path / "integers.wav")


def test_a_part_behind_a_length_that_is_wrong_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(data_size=0x7FFFFFFE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        assert len(read(tmp_path / "a.wav", start=1.0)[0]) == RATE
        with pytest.raises(AudioError, match=r"starts at 50000 s|holds no samples from 50000 s on"):
            read(tmp_path / "a.wav", start=50_000.0, seconds=1e9)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"name_\xff\x1b.wav")
    (tmp_path / name).write_bytes(wav())
    assert [path.name for path in find_audio(tmp_path)] == [name]
    assert len(read(tmp_path / name)[0]) == 2 * RATE
    assert shown(name) == r"name_\xff\x1b.wav" and utf8(name) == "name_\\xff\x1b.wav"
    assert shown("Grün 你好\u00a0x") == "Grün 你好\u00a0x"


def test_without_the_extra_the_files_are_counted_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.m4a", "b.m4a", "c.webm"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.wav").write_bytes(wav())
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("unheard.audio.folders.av_installed", lambda: False)
    with pytest.warns(
        AudioWarning, match=r"3 sound files are left out \(2 .m4a, 1 .webm\); to read them: pip install 'unheard\[av\]'"
    ):
        assert [path.name for path in find_audio(tmp_path)] == ["d.wav"]
    with pytest.raises(AudioError, match=r"unheard\[av\]"):
        open_sound(tmp_path / "a.m4a")


def test_a_table_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(AudioError, match="a table or text, not a sound file"):
        read(tmp_path / "labels.csv")


def test_a_flac_file_that_was_written_to_a_pipe_says_no_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", SOUND, RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # 36 bits of the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert info(tmp_path / "a.flac").seconds == 2 and len(whole(tmp_path / "a.flac")[0]) == 2 * RATE
    assert len(read(tmp_path / "a.flac", start=0.5, seconds=1.0)[0]) == RATE


@pytest.mark.parametrize("end", ["au", "w64", "caf"])
def test_other_files_of_libsndfile_are_found_and_read(end: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / f"a.{end}", SOUND, RATE)
    assert [path.name for path in find_audio(tmp_path)] == [f"a.{end}"]
    assert len(whole(tmp_path / f"a.{end}")[0]) == 2 * RATE


@pytest.mark.parametrize("end", ["au", "w64"])
def test_an_au_or_w64_file_that_was_cut_is_named(end: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / f"tone.{end}", SOUND, RATE)
    content = (tmp_path / f"tone.{end}").read_bytes()
    assert not whole(tmp_path / f"tone.{end}")[1]
    (tmp_path / f"cut.{end}").write_bytes(content[: len(content) // 2])
    sound, noted = whole(tmp_path / f"cut.{end}")
    assert 0 < len(sound) < len(SOUND) and "is truncated" in noted[0] and f"cut.{end}" in noted[0]


def test_ogg_streams_one_after_another_are_named(tmp_path: Path) -> None:
    parts = []
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.ogg", SOUND, RATE)
        parts.append((tmp_path / f"{number}.ogg").read_bytes())
        assert not whole(tmp_path / f"{number}.ogg")[1]
    for chained in (parts, parts[:1] * 2):  # with serial numbers of their own, and with the same one
        (tmp_path / "both.ogg").write_bytes(b"".join(chained))
        sound, noted = whole(tmp_path / "both.ogg")
        assert abs(len(sound) - len(SOUND)) < RATE // 10 and "several streams" in noted[0]


def test_rf64_without_sizes_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", SOUND, RATE, format="RF64", subtype="PCM_16")
    content = bytearray((tmp_path / "tone.wav").read_bytes())
    right, _ = whole(tmp_path / "tone.wav")
    place = content.find(b"ds64")
    for size in (bytes(8), b"\xff" * 8):
        content[place + 16 : place + 24] = size
        (tmp_path / "open.wav").write_bytes(content)
        sound, noted = whole(tmp_path / "open.wav")
        np.testing.assert_array_equal(sound, right)
        assert "never completed" in noted[0]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_cut_flac_file_has_the_length_that_is_there(channels: int, subtype: str, tmp_path: Path) -> None:
    long = np.tile(SOUND, (channels, 6)).T
    soundfile.write(tmp_path / "a.flac", long, RATE, subtype=subtype)
    content = (tmp_path / "a.flac").read_bytes()
    assert info(tmp_path / "a.flac").frames == len(long) and not info(tmp_path / "a.flac").note
    for share in (0.3, 0.5, 0.77, 0.9):
        (tmp_path / "cut.flac").write_bytes(content[: int(share * len(content))])
        found = info(tmp_path / "cut.flac")
        sound, noted = whole(tmp_path / "cut.flac")
        assert found.frames == len(sound) < len(long)
        assert (
            found.note == f"it is truncated: its header declares {len(long)} samples, it holds {len(sound)}"
            and found.note in noted[0]
        )
    counts = []
    for end in range(len(content) - 40000, len(content), 997):
        (tmp_path / "cut.flac").write_bytes(content[:end])
        counts.append(info(tmp_path / "cut.flac").frames)
    assert counts == sorted(counts) and all(count % 4096 == 0 for count in counts if count < len(long))
