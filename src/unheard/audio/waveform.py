"""Read sound files and arrays as mono float32 waveforms.

`unheard.audio.decode` decodes, and soxr resamples at its HQ setting. Channels are mixed before resampling, which halves
the work for stereo.

A file is read to its actual end. A truncated file, or one with a wrong header, is used as far as it can be decoded,
with an `AudioWarning`. Samples of more than `LOUDEST` are refused: such a file is damaged, or holds integers that were
stored as floats without scaling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soxr
from jaxtyping import Float32
from numpy.typing import ArrayLike

from unheard.audio.decode import open_sound
from unheard.audio.decoder import Decoder
from unheard.audio.limits import RATES, checked_samples, full_scale
from unheard.errors import AudioError, shown, warn_audio

Channel = Literal["mix", "left", "right", "mid"]
Waveform = Float32[np.ndarray, " S"]

MAX_CHANNELS = 64
"""An array with more rows than this is assumed to be (samples, channels) and refused (our choice)."""

BLOCK = 1 << 20
"""Samples of each channel that are decoded at once."""


@dataclass(frozen=True)
class AudioInfo:
    """The header of a sound file.

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
        Samples per channel, as far as they are known without decoding. 0 for a file without samples.
    note : str
        A note for the user, for example that the file is truncated; empty otherwise.
    """

    path: Path
    seconds: float
    sample_rate: int
    channels: int
    format: str
    subtype: str
    frames: int
    note: str = ""


def info(path: str | Path) -> AudioInfo:
    """Read the header of a sound file, and compare it with the file.

    Raises
    ------
    AudioError
        When the file is missing or not a sound file.
    """
    with open_sound(path) as file:
        frames = file.frames
        if frames <= 0:  # unknown: written to a pipe, or empty
            while len(file.read(BLOCK)):
                pass
            frames = file.came
        seconds = frames / file.sample_rate
        return AudioInfo(
            Path(path), seconds, file.sample_rate, file.channels, file.format, file.subtype, frames, file.note
        )


def read(
    path: str | Path,
    sample_rate: int | None = None,
    channel: Channel = "mix",
    start: float = 0.0,
    seconds: float | None = None,
) -> tuple[Waveform, int]:
    """Decode a sound file, or a part of it, to mono float32.

    Parameters
    ----------
    path : str or Path
    sample_rate : int, optional
        Resample to this rate in Hz. Default: the file's own.
    channel : {"mix", "left", "right", "mid"}
        "mix" is the mean of all channels, "mid" the mean of the first two (the same for stereo). All give the one
        channel of a mono file.
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
        When the file is missing, not a sound file, empty, ends before ``start``, or holds invalid samples.

    Warns
    -----
    AudioWarning
        When the file is truncated, or its header is wrong.
    """
    with open_sound(path) as file:
        rate, weights = file.sample_rate, _weights(channel, file.channels)
        wav = checked_samples(
            np.concatenate([block @ weights for block in _part(file, start, seconds)]), shown(path), rate
        )
    return (wav, rate) if sample_rate is None else (_resample(wav, rate, sample_rate), sample_rate)


def read_channels(
    path: str | Path, start: float = 0.0, seconds: float | None = None
) -> tuple[Float32[np.ndarray, "C S"], int]:
    """Decode a part of a sound file with all of its channels, for `from_array`. Parameters and errors are those of
    `read`.
    """
    with open_sound(path) as file:
        return np.concatenate(list(_part(file, start, seconds))).T, file.sample_rate


def _part(file: Decoder, start: float, seconds: float | None) -> Iterator[Float32[np.ndarray, "S C"]]:
    """Yield the blocks of a part of a file; at least one."""
    rate = file.sample_rate
    first, left = round(start * rate), math.inf if seconds is None else max(1, round(seconds * rate))
    if first < 0 or first >= file.frames > 0:
        raise AudioError(f"{shown(file.path)}: starts at {start:g} s, but the file lasts {file.frames / rate:.3f} s")
    if first:
        file.skip(first)
    came = 0
    while left > 0 and len(native := file.read(int(min(BLOCK, left)))):
        yield native
        left -= len(native)
        came += len(native)
    if not came:
        raise AudioError(f"{shown(file.path)}: holds no samples{f' from {start:g} s on' if first else ''}")
    if file.note:
        warn_audio(f"{shown(file.path)}: {file.note}")


def stream(
    path: str | Path, sample_rate: int | None = None, block_seconds: float = 30.0, channel: Channel = "mix"
) -> Iterator[Waveform]:
    """Decode a sound file block by block, in memory that does not grow with its length.

    The concatenated blocks equal what `read` returns, up to float rounding. Parameters and errors are those of `read`;
    ``block_seconds`` is the length of the blocks that are decoded at once.

    Yields
    ------
    Float32[ndarray, "s"]
        Blocks of at least one sample.
    """
    with open_sound(path) as file:
        rate, weights = file.sample_rate, _weights(channel, file.channels)
        target = sample_rate or rate
        resampler = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ") if target != rate else None
        given, done = 0, 0
        for native, more in _blocks(file, max(1, round(block_seconds * rate))):
            wav = checked_samples(native @ weights, shown(path), rate, done)
            done += len(native)
            block = wav if resampler is None else resampler.resample_chunk(wav, last=not more)
            given += len(block)
            if len(block):
                yield block
        if not done:
            raise AudioError(f"{shown(path)}: holds no samples")
        if file.note:
            warn_audio(f"{shown(path)}: {file.note}")
    if not given:
        yield wav[:1]


def _blocks(file: Decoder, size: int) -> Iterator[tuple[Float32[np.ndarray, "S C"], bool]]:
    """Yield the blocks of a file, each with whether another one follows."""
    block = file.read(size)
    while len(block):
        following = file.read(size) if len(block) == size else block[:0]
        yield block, len(following) > 0
        block = following


def from_array(wav: ArrayLike, sample_rate: int, target_rate: int | None = None, channel: Channel = "mix") -> Waveform:
    """Check a waveform of a caller, mix it to mono and resample it.

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
        For any other shape or type, an empty array, a rate outside `RATES`, or invalid samples.
    """
    samples = np.asarray(wav)
    where = f"an array of shape {samples.shape}"
    scale = full_scale(samples, where)
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(f"{where} is not a waveform; give (samples,) or (channels, samples) with at least one sample")
    if samples.ndim == 2 and samples.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"{where} has more than {MAX_CHANNELS} channels; give (channels, samples), perhaps by transposing it"
        )
    rate = checked_rate(sample_rate, where)
    native = np.atleast_2d(samples).T.astype(np.float32) / np.float32(scale)
    mono = checked_samples(native @ _weights(channel, native.shape[1]), where, rate)
    return _resample(mono, rate, target_rate or rate)


def checked_rate(sample_rate: object, where: str) -> int:
    """Return a sample rate of a caller as a whole number of Hz.

    Raises
    ------
    AudioError
        When it is not a whole number in `RATES`.
    """
    number = isinstance(sample_rate, int | float | np.integer | np.floating) and not isinstance(sample_rate, bool)
    if number and RATES[0] <= float(sample_rate) <= RATES[1] and float(sample_rate) == round(float(sample_rate)):  # type: ignore[arg-type]
        return round(float(sample_rate))  # type: ignore[arg-type]
    raise AudioError(
        f"{where} has a sample rate of {sample_rate!r}; give the sample rate of the array in whole Hz, "
        f"from {RATES[0]} to {RATES[1]}"
    )


def _weights(channel: Channel, channels: int) -> Float32[np.ndarray, " C"]:
    """Return the weight of each channel in the mono mix, (C,)."""
    if channel not in get_args(Channel):
        raise AudioError(f"unknown channel {channel!r}; choose one of {', '.join(get_args(Channel))}")
    weights = np.zeros(channels, np.float32)
    taken = {
        "mix": slice(None),
        "left": slice(0, 1),
        "right": slice(1, 2) if channels > 1 else slice(0, 1),
        "mid": slice(0, 2),
    }[channel]
    weights[taken] = 1.0 / len(weights[taken])
    return weights


def _resample(wav: Waveform, rate: int, target: int) -> Float32[np.ndarray, " R"]:
    """Resample at soxr's HQ setting; at least one sample remains."""
    if rate == target:
        return wav
    resampled: Float32[np.ndarray, " R"] = soxr.resample(wav, rate, target, quality="HQ")
    return resampled if len(resampled) else wav[:1]
