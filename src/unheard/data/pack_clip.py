"""Packing of one clip: decode, transform and round it, in memory for one block of audio and the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unheard.audio.framing import INT16_SCALE, Frontend
from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.audio.waveform import Channel, read, stream
from unheard.data.corpus import Clip, Skipped
from unheard.data.shard_layout import Dtype, Frames, quantise, quantise_wave, value_range
from unheard.errors import AudioError, shown

MAX_IN_FLIGHT = 16
"""Clips in work or waiting for each worker; bounds the memory (our choice)."""


@dataclass(frozen=True)
class PackConfig:
    """Representation of packed clips."""

    frontend: AnyFrontendConfig
    """Front end of the stored spectrograms, or of their statistics."""
    dtype: Dtype = "float16"
    """float16 rounds log-mel to 0.004 at most. uint8 takes half the space and rounds to 0.05, enough for pre-training.
    int16 stores waves instead.
    """
    sample_rate: int | None = None
    """Rate of stored waves, Hz; null: the front end's."""
    channel: Channel = "mix"
    """Channel to store, or the mean of all."""

    @property
    def rate(self) -> int:
        """Return the rate of stored waves in Hz."""
        return self.sample_rate or self.frontend.sample_rate

    @property
    def bytes_a_second(self) -> float:
        """Return the bytes of one second of audio."""
        size, config = np.dtype(self.dtype).itemsize, self.frontend
        return size * (self.rate if self.waves else config.sample_rate / config.hop_size * config.n_mels)

    def key(self) -> tuple[object, ...]:
        """Return the values that identify a packing of a corpus."""
        return (
            asdict(self.frontend),
            self.dtype,
            *((self.rate,) if self.waves else ()),
            *((self.channel,) if self.channel != "mix" else ()),
        )

    @property
    def waves(self) -> bool:
        """Return whether waves are stored."""
        return self.dtype == "int16"

    @cached_property
    def value_range(self) -> tuple[float, float] | None:
        """Return the values of 0 and 255, for values stored as uint8."""
        return value_range(self.frontend) if self.dtype == "uint8" else None

    def empty(self) -> Frames:
        """Return an empty clip as it is stored."""
        return np.empty(0 if self.waves else (0, self.frontend.n_mels), self.dtype)


@dataclass(frozen=True)
class Packed:
    """One clip as it is stored, its number of frames, sums of each band, and the number of clipped values."""

    values: Frames
    frames: int
    total: np.ndarray
    squares: np.ndarray
    clipped: int = 0


def transformed(root: Path, clips: list[Clip], config: PackConfig, workers: int) -> Iterator[Packed | Skipped]:
    """Yield the packed clips in order, computed by threads: decoding, resampling and the transform release the GIL."""
    frontend = build_frontend(config.frontend)
    waiting: deque[Future[Packed | Skipped]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for clip in clips:
                waiting.append(pool.submit(_transform, root, clip, frontend, config))
                if len(waiting) >= MAX_IN_FLIGHT * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _transform(root: Path, clip: Clip, frontend: Frontend, config: PackConfig) -> Packed | Skipped:
    """Decode one clip and transform it, in memory for one block of audio and the result."""
    waves: list[Frames] = []
    specs: list[Frames] = []
    total, squares, frames = np.zeros(frontend.n_mels), np.zeros(frontend.n_mels), 0
    clipped: list[int] = []
    try:
        wave = _sound(root / clip.path, clip, frontend.sample_rate, config.channel)
        if config.waves:
            stored = _stored(_sound(root / clip.path, clip, config.rate, config.channel), waves, clipped)
            wave = stored if config.rate == frontend.sample_rate else wave
        for spec in frontend.stream(wave):
            exact = spec.astype(np.float64)
            frames += len(spec)
            total += exact.sum(axis=0)
            squares += np.square(exact, out=exact).sum(axis=0)
            if not config.waves:
                values, outside = quantise(spec, config.dtype, config.value_range)
                specs.append(values)
                clipped.append(outside)
        if config.waves:
            deque(stored, maxlen=0)  # at another rate the stored wave was not read by the transform
    except AudioError as error:
        return Skipped(clip.path, str(error).removeprefix(f"{shown(root / clip.path)}: "))
    return Packed(np.concatenate(waves or specs), frames, total, squares, sum(clipped))


def _sound(path: Path, clip: Clip, sample_rate: int, channel: Channel) -> Iterator[np.ndarray]:
    """Yield the clip's audio in blocks."""
    if clip.start == 0 and clip.end is None:
        return stream(path, sample_rate, channel=channel)
    return iter([read(path, sample_rate, channel, clip.start, clip.seconds)[0]])


def _stored(blocks: Iterable[np.ndarray], waves: list[Frames], clipped: list[int]) -> Iterator[np.ndarray]:
    """Store every block, and yield what reading it returns."""
    for block in blocks:
        values, outside = quantise_wave(block)
        waves.append(values)
        clipped.append(outside)
        yield waves[-1].astype(np.float32) / np.float32(INT16_SCALE)
