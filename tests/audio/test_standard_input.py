"""Sounds on the standard input."""

from __future__ import annotations

import io
import os
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from jaxtyping import Float32

from unheard.audio.decode import open_sound
from unheard.audio.standard_input import StandardInput
from unheard.audio.waveform import read
from unheard.errors import AudioError, AudioWarning

RATE = 16000
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
Samples = Float32[np.ndarray, "S C"]


def sounds(channels: int, count: int = 1000) -> Samples:
    return np.random.default_rng(0).uniform(-1, 1, (count, channels)).astype(np.float32)


def wav_bytes(subtype: str, channels: int = 1, form: str = "WAV", count: int = 1000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sounds(channels, count), RATE, format=form, subtype=subtype)
    return file.getvalue()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk, with another size in its header if one is given."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int = 0xFFFFFFFF) -> bytes:
    return name + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def form(tag: int, channels: int, bits: int, block: int | None = None, extra: bytes = b"") -> bytes:
    block = channels * (bits + 7) // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, RATE, RATE * block, block, bits) + extra)


def decoded(content: bytes, piece: int = 300) -> tuple[Samples, StandardInput]:
    """Every sample of a stream, read in pieces, and its decoder."""
    decoder = StandardInput("-", io.BytesIO(content))
    parts = []
    while len(part := decoder.read(piece)):
        parts.append(part)
    return np.concatenate([np.zeros((0, decoder.channels), np.float32), *parts]), decoder


@pytest.mark.parametrize("rate", [0, 1, 4_000_000_000])
def test_a_rate_out_of_range_is_refused(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate % 2**32, 2, 16)
    chunks = b"WAVEfmt " + header + b"data" + struct.pack("<I", 64) + bytes(64)
    file = io.BytesIO(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
    with pytest.raises(AudioError, match=f"its header states {rate} Hz; accepted are 100 to 1000000 Hz"):
        open_sound("-")


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_samples_are_those_of_a_file(subtype: str, container: str, channels: int) -> None:
    content = wav_bytes(subtype, channels, container, 1001)
    wanted, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    found, decoder = decoded(content)
    np.testing.assert_array_equal(found, wanted)
    assert (decoder.sample_rate, decoder.channels, decoder.frames) == (rate, channels, len(wanted))
    assert (decoder.format, decoder.subtype, decoder.note) == ("WAV", subtype, "")


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_header_without_length_is_read_to_the_end(subtype: str, size: int) -> None:
    """ffmpeg writes 0xFFFFFFFF to a pipe, sox 0x7FFFF000, arecord 0x80000000, and a LIST chunk may come first."""
    content = bytearray(wav_bytes(subtype, 2))
    wanted, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    at = content.index(b"data")
    content[at + 4 : at + 8] = struct.pack("<I", size)
    content[4:8] = struct.pack("<I", size)
    content[at:at] = chunk(b"LIST", b"INFOISFT\x0d\0\0\0Lavf60.16.100")
    found, decoder = decoded(bytes(content))
    assert decoder.frames == 0 and decoder.note == ""
    np.testing.assert_array_equal(found, wanted)


def test_the_length_of_rf64_is_in_its_own_chunk() -> None:
    wanted = sounds(1)[:, 0].astype("<f4").tobytes()
    lengths = struct.pack("<QQQI", 100 + len(wanted), len(wanted), 0, 0)
    parts = form(3, 1, 32), chunk(b"data", wanted, 0xFFFFFFFF), chunk(b"LIST", bytes(400))
    found, _ = decoded(riff(chunk(b"ds64", lengths), *parts, name=b"RF64"))
    np.testing.assert_array_equal(found, sounds(1))
    found, _ = decoded(riff(chunk(b"ds64", bytes(28)), *parts[:2], name=b"RF64"))
    np.testing.assert_array_equal(found, sounds(1))


def test_chunks_of_any_size_before_the_samples_are_skipped() -> None:
    wanted = (sounds(1)[:, 0] * 2**15).astype("<i2")
    parts = chunk(b"JUNK", bytes(100_001)), form(1, 1, 16, extra=b"\0\0"), chunk(b"bext", b"data" * 151)
    found, _ = decoded(riff(*parts, chunk(b"data", wanted.tobytes()), chunk(b"LIST", bytes(300))))
    np.testing.assert_array_equal(found[:, 0], wanted / np.float32(2**15))


def test_a_file_of_python_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(2)
        written.setsampwidth(3)
        written.setframerate(RATE)
        written.writeframes(bytes(range(240)))
    wanted, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    np.testing.assert_array_equal(decoded(file.getvalue())[0], wanted)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("subtype", SUBTYPES[1:])
def test_an_end_within_a_sample_is_reported_and_the_whole_samples_are_kept(
    subtype: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a file: a warning, and the same samples."""
    content = bytearray(wav_bytes(subtype, 2)[:-3])
    if not known:
        at = content.index(b"data")
        content[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.warns(AudioWarning):
        wanted, _ = read(tmp_path / "a.wav")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    reason = "declares 1000 samples, it holds 999" if known else "it ends in the middle of a sample"
    with pytest.warns(AudioWarning, match=f"-: it is truncated: .*{reason}"):
        found, _ = read("-")
    assert len(found) == 999
    np.testing.assert_array_equal(found, wanted)


def test_chunks_after_less_than_one_sample_are_not_samples() -> None:
    after = chunk(b"LIST", b"INFOISFT" + bytes(20))
    samples, _ = decoded(riff(form(1, 1, 16), chunk(b"data", b"\1"), after))
    assert samples.shape == (0, 1)


def test_a_part_of_one_sample_is_refused() -> None:
    with pytest.raises(AudioError, match="it ends in the middle of a sample"):
        decoded(riff(form(1, 1, 32), chunk(b"data", b"\1\2\3", 0xFFFFFFFF)[:11]))
    with pytest.raises(AudioError, match="it ends in the middle of a sample"):
        StandardInput("-@16000", io.BytesIO(b"\1")).read(10)


@pytest.mark.parametrize(
    ("subtype", "name"),
    [("ULAW", "mu-law"), ("ALAW", "A-law"), ("IMA_ADPCM", "IMA ADPCM"), ("MS_ADPCM", "Microsoft ADPCM")],
)
def test_other_encodings_are_named(subtype: str, name: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, sounds(1), RATE, format="WAV", subtype=subtype)
    with pytest.raises(AudioError, match=f"WAV file encoded as {name}; convert it .* ffmpeg .*-c:a pcm_s16le"):
        decoded(file.getvalue())


def test_unusual_headers_are_refused() -> None:
    extensible = struct.pack("<HHI", 22, 16, 0) + struct.pack("<H", 7) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    data = chunk(b"data", bytes(8))
    for content, message in {
        riff(form(0xFFFE, 1, 8, extra=extensible), data): "encoded as mu-law",
        riff(form(0xFFFE, 1, 16), data): "a damaged header",
        riff(form(0x1234, 1, 16), data): "encoded as format 0x1234",
        riff(form(1, 1, 64), data): "64-bit integers",
        riff(form(3, 1, 16), data): "16-bit floats",
        riff(form(1, 2, 24, block=8), data): "a damaged header",
        riff(form(1, 0, 16), data): "a damaged header",
        riff(data): "a damaged header",
        riff(form(1, 1, 16)): "ends in the header",
        riff(form(1, 1, 16), chunk(b"JUNK", b"ab", 9000)): "ends in the header",
        riff(form(1, 1, 16))[:30]: "ends in the header",
        b"RIFX" + riff(form(1, 1, 16), data)[4:]: "no WAV file",
        b"fLaC" + bytes(100): "no WAV file",
    }.items():
        with pytest.raises(AudioError, match=message):
            decoded(content)


def test_samples_are_given_before_the_end_of_the_stream() -> None:
    content = wav_bytes("FLOAT", 2)
    at = content.index(b"data")
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as sender, os.fdopen(reading, "rb") as receiver:
        sender.write(content[:at] + b"data\xff\xff\xff\xff" + content[at + 8 : at + 8 + 800])
        decoder = StandardInput("-", receiver)
        np.testing.assert_array_equal(decoder.read(100), sounds(2)[:100])
        sender.write(content[at + 808 : at + 1608])
        np.testing.assert_array_equal(decoder.read(100), sounds(2)[100:200])


class Pipe(io.RawIOBase):
    """A file that is written and never seeked."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(bytes(data))


@pytest.mark.parametrize(
    ("codec", "layout", "subtype", "error"),
    [
        ("pcm_u8", "u8", "PCM_U8", 2**-7),
        ("pcm_s16le", "s16", "PCM_16", 2**-15),
        ("pcm_s24le", "s32", "PCM_24", 2**-23),
        ("pcm_s32le", "s32", "PCM_32", 2**-24),
        ("pcm_f32le", "flt", "FLOAT", 0.0),
        ("pcm_f64le", "dbl", "DOUBLE", 0.0),
    ],
)
def test_what_ffmpeg_writes_to_a_pipe_is_read(codec: str, layout: str, subtype: str, error: float) -> None:
    av = pytest.importorskip("av")
    pipe, wanted = Pipe(), 0.9 * sounds(2, 5000)
    with av.open(pipe, "w", format="wav") as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wanted.T), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for converted in av.AudioResampler(format=layout, layout="stereo", rate=RATE).resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    assert b"data\xff\xff\xff\xff" in pipe.content
    found, decoder = decoded(bytes(pipe.content))
    assert (decoder.subtype, decoder.frames, decoder.note) == (subtype, 0, "")
    np.testing.assert_allclose(found, wanted, atol=error, rtol=0)
