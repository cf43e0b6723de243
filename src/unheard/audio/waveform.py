"""Sound files and arrays in, mono float32 waveforms out.

libsndfile decodes wav (8, 16, 24, 32 bit and float), flac, ogg, opus, mp3 and aiff; soxr resamples at its HQ setting. Channels
are mixed before resampling, which halves the work on stereo.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from unheard.errors import AudioError, DataError

Channel = Literal["mix", "left", "right", "mid"]
Waveform = Float32[np.ndarray, " S"]

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
"""File names this library takes for sound, in lower case."""

MAX_CHANNELS = 64
"""An array with more rows than this is taken for (samples, channels) and refused (our choice)."""

_LOOSE = frozenset({"MP3", "OGG"})
"""Formats whose header only estimates the length: a few samples may be missing at the end."""

_INTEGER_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file says.

    Parameters
    ----------
    path : Path
    seconds : float
    sample_rate : int
        Hz.
    channels : int
    format, subtype : str
        libsndfile's names, such as "WAV" and "PCM_16".
    frames : int
        Samples per channel. 0 in a file that holds no sound.
    """

    path: Path
    seconds: float
    sample_rate: int
    channels: int
    format: str
    subtype: str
    frames: int


def find_audio(folder: str | Path) -> list[Path]:
    """Every sound file below ``folder``, sorted by its relative path.

    Hidden files and folders and names without one of `AUDIO_SUFFIXES` are left out; linked folders are not entered.

    Raises
    ------
    DataError
        When ``folder`` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a folder that holds sound files")
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def info(path: str | Path) -> AudioInfo:
    """Read the header of a sound file.

    Raises
    ------
    AudioError
        When the file is missing or not a sound file.
    """
    with _open(path) as file:
        seconds = file.frames / file.samplerate
        return AudioInfo(Path(path), seconds, file.samplerate, file.channels, file.format, file.subtype, file.frames)


def read(
    path: str | Path, sample_rate: int | None = None, channel: Channel = "mix", start: float = 0.0, seconds: float | None = None
) -> tuple[Waveform, int]:
    """Decode a sound file, or a part of it, to mono float32 in [-1, 1].

    Parameters
    ----------
    path : str or Path
    sample_rate : int, optional
        Resample to this rate in Hz. Default: the file's own.
    channel : {"mix", "left", "right", "mid"}
        "mix" is the mean of all channels, "mid" the mean of the first two (the same for stereo). A mono file gives its one channel.
    start : float
        Where to begin, in seconds.
    seconds : float, optional
        How much to read at most. Default: to the end.

    Returns
    -------
    wav : Float32[ndarray, "S"]
        At least one sample.
    sample_rate : int

    Raises
    ------
    AudioError
        When the file is missing, not sound, cut short, empty, or holds samples that are not finite numbers.
    """
    with _open(path) as file:
        first = round(start * file.samplerate)
        last = file.frames if seconds is None else min(file.frames, first + max(1, round(seconds * file.samplerate)))
        if file.frames and not 0 <= first < file.frames:
            raise AudioError(f"{path}: starts at {start:g} s, but the file lasts {file.frames / file.samplerate:.3f} s")
        skip = first if file.format == "MP3" else 0  # libmpg123 complains on stderr when it seeks: decode and drop instead
        native = _decode(file, path, first - skip, last - first + skip)[skip:]
        if not len(native):
            raise _cut(path, last - first, 0)
        wav, rate = _finite(native @ _weights(channel, file.channels), path, file.samplerate), file.samplerate
    return (wav, rate) if sample_rate is None else (_resample(wav, rate, sample_rate), sample_rate)


def stream(path: str | Path, sample_rate: int | None = None, block_seconds: float = 30.0, channel: Channel = "mix") -> Iterator[Waveform]:
    """Decode a sound file block by block, in memory that does not grow with its length.

    The blocks laid end to end equal what `read` returns, up to float rounding. Parameters and errors are those of `read`;
    ``block_seconds`` is the length of the blocks that are decoded at once.

    Yields
    ------
    Float32[ndarray, "s"]
        Blocks of at least one sample.
    """
    with _open(path) as file:
        rate, weights = file.samplerate, _weights(channel, file.channels)
        target = sample_rate or rate
        resampler = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ") if target != rate else None
        size, done, given, more = max(1, round(block_seconds * rate)), 0, 0, True
        while more:
            native = _decode(file, path, 0, min(size, file.frames - done))
            wav = _finite(native @ weights, path, rate, done)
            done += len(native)
            if not done:
                raise _cut(path, file.frames, 0)
            more = len(native) == size and done < file.frames
            block = wav if resampler is None else resampler.resample_chunk(wav, last=not more)
            given += len(block)
            if len(block):
                yield block
    if not given:
        yield wav[:1]


def from_array(wav: ArrayLike, sample_rate: int, target_rate: int | None = None, channel: Channel = "mix") -> Waveform:
    """Check a waveform that a caller made, mix it to mono and resample it.

    Parameters
    ----------
    wav : array, (S,) or (channels, S)
        Floats in [-1, 1], or int16 or int32 samples, which are scaled to that range.
    sample_rate : int
        Its rate in Hz.
    target_rate : int, optional
        Resample to this rate.
    channel : {"mix", "left", "right", "mid"}
        As in `read`.

    Raises
    ------
    AudioError
        For any other shape or type, an empty array, a rate below 1 Hz, or samples that are not finite.
    """
    samples = np.asarray(wav)
    name, where = samples.dtype.name, f"an array of shape {samples.shape}"
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(f"{where} is not a waveform; give (samples,) or (channels, samples) with at least one sample")
    if samples.ndim == 2 and samples.shape[0] > MAX_CHANNELS:
        raise AudioError(f"{where} has more than {MAX_CHANNELS} channels; give (channels, samples), perhaps by transposing it")
    if sample_rate < 1:
        raise AudioError(f"a sample rate of {sample_rate} Hz came with {where}; give the rate the samples were taken at")
    if name not in _INTEGER_SCALE and samples.dtype.kind != "f":
        raise AudioError(f"{where} holds {name} values; give floats in [-1, 1], int16 or int32")
    native = np.atleast_2d(samples).T.astype(np.float32) / np.float32(_INTEGER_SCALE.get(name, 1.0))
    mono = _finite(native @ _weights(channel, native.shape[1]), where, sample_rate)
    return _resample(mono, sample_rate, target_rate or sample_rate)


def _open(path: str | Path) -> Any:
    """Open a sound file; any way it can fail is an AudioError that names it."""
    if not Path(path).is_file():
        raise AudioError(f"{path}: is a folder; give one sound file" if Path(path).is_dir() else f"{path}: no such file")
    try:
        return soundfile.SoundFile(os.fspath(path))
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise AudioError(f"{path}: not a sound file that can be read; convert it to wav or flac, or remove it") from error


def _decode(file: Any, path: str | Path, ahead: int, count: int) -> NDArray[np.float32]:
    """Skip ``ahead`` samples and read the next ``count``, (S, C). Only formats with an estimated length may give fewer."""
    if file.frames <= 0:
        raise AudioError(f"{path}: holds no samples; remove it")
    try:
        if ahead:
            file.seek(ahead, soundfile.SEEK_CUR)
        samples: NDArray[np.float32] = file.read(count, dtype="float32", always_2d=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise AudioError(f"{path}: breaks off or is damaged; get it again, or remove it") from error
    if len(samples) < count and file.format not in _LOOSE:
        raise _cut(path, count, len(samples))
    return samples


def _cut(path: str | Path, announced: int, came: int) -> AudioError:
    return AudioError(f"{path}: breaks off, {announced} samples were announced and {came} came; get it again, or remove it")


def _weights(channel: Channel, channels: int) -> NDArray[np.float32]:
    """Weight of each channel in the mono mix, (C,)."""
    if channel not in get_args(Channel):
        raise AudioError(f"unknown channel {channel!r}; choose one of {', '.join(get_args(Channel))}")
    weights = np.zeros(channels, np.float32)
    taken = {"mix": slice(None), "left": slice(0, 1), "right": slice(1, 2) if channels > 1 else slice(0, 1), "mid": slice(0, 2)}[channel]
    weights[taken] = 1.0 / len(weights[taken])
    return weights


def _finite(wav: Waveform, name: object, sample_rate: int, offset: int = 0) -> Waveform:
    """Return ``wav`` unless a sample is NaN or infinite."""
    if not math.isfinite(float(wav.sum())) and len(bad := np.flatnonzero(~np.isfinite(wav))):
        where = (offset + int(bad[0])) / sample_rate
        raise AudioError(f"{name}: {len(bad)} samples are not finite numbers, the first at {where:.3f} s; repair it, or remove it")
    return wav


def _resample(wav: Waveform, rate: int, target: int) -> Float32[np.ndarray, " R"]:
    """Change the rate at soxr's HQ setting; at least one sample stays."""
    if rate == target:
        return wav
    resampled: NDArray[np.float32] = soxr.resample(wav, rate, target, quality="HQ")
    return resampled if len(resampled) else wav[:1]
