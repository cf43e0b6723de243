"""Frames of a signal that arrives in chunks equal those of the whole signal, and come in time."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from unheard.embedding.bulk import embed_table
from unheard.embedding.loading import load
from unheard.embedding.streaming import resampled_chunks
from unheard.errors import AudioError, ConfigError

RATE = 16000
LATENCY = 2.08 + 0.16 + 2 * 0.025 + 0.001
"""Seconds: one window, one patch and two analysis frames."""


@pytest.fixture(scope="module")
def model():
    return load("random-tiny")


@pytest.fixture(scope="module")
def wav():
    return (0.1 * np.random.default_rng(0).standard_normal(round(9.37 * RATE))).astype(np.float32)


def chunks_of(wav, size):
    return [wav[first : first + size] for first in range(0, len(wav), size)]


@pytest.mark.parametrize("hop", [None, 0.04, 0.01])
@pytest.mark.parametrize("size", [1000, 16000, 10**6])
def test_streamed_frames_equal_those_of_the_whole_signal(model, wav, size, hop):
    found = list(model.stream(chunks_of(wav, size), RATE, hop=hop))
    wanted = model.embed((wav, RATE), hop=hop)
    times = np.concatenate([times for _, times in found])
    np.testing.assert_array_equal(times, wanted.times_ms)
    np.testing.assert_allclose(np.concatenate([frames for frames, _ in found]), wanted.frames, atol=1e-4)


@pytest.mark.parametrize("hop", [None, 0.04])
def test_a_frame_comes_at_most_one_latency_after_its_sound(model, wav, hop):
    given, size = 0, 800

    def arriving():
        nonlocal given
        for chunk in chunks_of(wav, size):
            given += len(chunk)
            yield chunk

    for _, times in model.stream(arriving(), RATE, hop=hop):
        assert given / RATE - times[0] / 1000 <= LATENCY + size / RATE or given == len(wav)


def test_other_rates_and_channels(model, wav):
    stereo = np.stack([wav, wav])
    found = np.concatenate([f for f, _ in model.stream([stereo[:, :70000], stereo[:, 70000:]], 44100)])
    np.testing.assert_allclose(found, model.embed((wav, 44100)).frames, atol=2e-3)
    short = np.concatenate(list(resampled_chunks([np.zeros(0), wav[:5], wav[5:4000]], 8000, 16000)))
    assert len(short) == 8000


def test_one_sample_and_none(model):
    assert [len(frames) for frames, _ in model.stream([np.zeros(1)], RATE)] == [1]
    assert list(model.stream([np.zeros(0)], RATE)) == []


def test_bad_streams_are_refused(model):
    with pytest.raises(AudioError, match="finite"):
        list(model.stream([np.full(10, np.nan)], RATE))
    with pytest.raises(AudioError, match="a stream has a sample rate of 0"):
        list(model.stream([np.zeros(10)], 0))
    with pytest.raises(ConfigError, match="hop must divide"):
        list(model.stream([np.zeros(10)], RATE, hop=0.03))


def run(arguments, content):
    return subprocess.run([sys.executable, "-m", "unheard", *arguments], input=content, capture_output=True)


def test_the_standard_input_is_a_wav_file_or_raw_samples(model, wav, tmp_path):
    soundfile.write(tmp_path / "a.wav", wav, RATE, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"  # as programs write that do not know the length
    raw = (wav * 2**15).round().astype("<i2").tobytes()
    tables = []
    for name, given in (("-", content), ("-@16000", raw)):
        out = tmp_path / f"{len(tables)}.npz"
        ended = run(["embed", "random-tiny", name, "-o", str(out), "--window", "2", "--device", "cpu"], bytes(given))
        assert ended.returncode == 0, ended.stderr
        with np.load(out) as arrays:
            assert set(arrays["path"]) == {name}
            tables.append((arrays["start"], arrays["embedding"]))
    assert tables[0][0].tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(tables[0][1], tables[1][1], atol=1e-3)  # rounded to 16 bit in two ways
    np.testing.assert_allclose(tables[0][1][0], model.embed((wav[: 2 * RATE], RATE)).scene, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("-", b"not a sound", b"no WAV file"),
        ("-", b"", b"is empty or ends in the header of a WAV file; send"),
        ("-@fast", b"", b"give the rate of the raw samples in Hz"),
        ("-@16000", b"", b"holds no samples"),
    ],
)
def test_bad_standard_input_is_refused(name, content, message, tmp_path):
    ended = run(["embed", "random-tiny", name, "-o", str(tmp_path / "x.npz"), "--device", "cpu"], content)
    assert ended.returncode == 2 and message in ended.stderr and not (tmp_path / "x.npz").exists()


def test_what_follows_the_samples_of_a_wav_file_is_no_sound(model, wav, tmp_path):
    soundfile.write(tmp_path / "a.wav", wav[: 2 * RATE], RATE, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes() + b"LIST" + (20000).to_bytes(4, "little") + bytes(range(200)) * 100
    out = tmp_path / "x.npz"
    ended = run(["embed", "random-tiny", "-", "-o", str(out), "--frames", "--hop", "0.04", "--device", "cpu"], content)
    assert ended.returncode == 0, ended.stderr
    wanted = model.embed(tmp_path / "a.wav", hop=0.04)
    with np.load(out) as arrays:
        np.testing.assert_allclose(arrays["time_ms"], wanted.times_ms)
        np.testing.assert_allclose(arrays["embedding"], wanted.frames, atol=1e-5)


def test_a_wav_file_that_breaks_off_is_named(wav, tmp_path):
    soundfile.write(tmp_path / "a.wav", wav, RATE, subtype="PCM_16")
    out = ["-o", str(tmp_path / "x.npz"), "--device", "cpu"]
    ended = run(["embed", "random-tiny", "-", *out], (tmp_path / "a.wav").read_bytes()[:40044])
    assert ended.returncode == 0 and b"its header declares 149920 samples, it holds 20000" in ended.stderr
    ended = run(["embed", "random-tiny", "-", *out, "--resume"], b"")
    assert ended.returncode == 2 and b"the standard input cannot be continued" in ended.stderr


def test_a_file_whose_name_begins_like_the_standard_input_is_read(model, wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("-@a.wav", wav, RATE)
    report = embed_table(model, ["-@a.wav"], tmp_path / "x.npz")
    assert (report.rows, report.skipped) == (1, ())
