"""How a packed corpus is stored: clips of any length back to back in a few large arrays, on disk or in memory.

A packed corpus is a folder:

    shard-00000.bin ...   clip after clip, little-endian, no header: spectrograms, frames x mel (time-major), float16 or uint8,
                          or mono waves, int16
    index.npz             for each clip: shard, offset and length (in rows: frames or samples), frames, path, domain, start and
                          seconds in its file
    dataset.json          format version, front end, dtype, rate, statistics, counts, skipped files, SHA-256 of each shard

uint8 values q stand for `UINT8_FLOOR` + q * `UINT8_STEP`: 24 nats, with a rounding error of 0.027 nat rms.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int16, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from unheard.audio.framing import INT16_SCALE
from unheard.audio.frontend import Statistics
from unheard.audio.frontends import FrontendConfig
from unheard.data.corpus import Skipped

FORMAT = 1
"""Version of the layout above; a higher one is refused."""

UINT8_FLOOR, UINT8_STEP = -16.0, 24.0 / 255
"""Natural-log range of uint8 shards: silence is -15.94 and full-scale sound stays below 8 (our choice)."""

HEADER, INDEX = "dataset.json", "index.npz"

Dtype = Literal["float16", "uint8", "int16"]
Stores = Literal["spec", "wav"]
Frames = NDArray[Any]
"""Stored values, rows first."""


@dataclass(frozen=True)
class Index:
    """Where each clip lies; arrays with one entry a clip."""

    shard: Int64[np.ndarray, " n"]
    """Number of its shard."""
    offset: Int64[np.ndarray, " n"]
    """Its first row in the shard: a frame, or a sample of a wave."""
    frames: Int64[np.ndarray, " n"]
    """How many frames it has, or gives."""
    path: Shaped[np.ndarray, " n"]
    """File it was read from, relative to the corpus."""
    domain: Shaped[np.ndarray, " n"]
    """Kind of sound; may be empty."""
    start: Float64[np.ndarray, " n"]
    """Where it begins in the file, in seconds."""
    seconds: Float64[np.ndarray, " n"]
    """How long it is."""
    samples: Int64[np.ndarray, " n"] | None = None
    """How many samples it has, where waves are stored."""
    label: Shaped[np.ndarray, " n"] | None = None
    """Its labels, joined by ``|``; empty where nobody said."""
    caption: Shaped[np.ndarray, " n"] | None = None
    """Its caption; empty where nobody said."""

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """How many rows of its shard it takes."""
        return self.frames if self.samples is None else self.samples


@dataclass(frozen=True)
class Header:
    """What holds for a whole packed corpus."""

    frontend: FrontendConfig
    """How spectrograms are made, or were."""
    dtype: Dtype
    """Type of the stored values; int16 means waves."""
    statistics: Statistics
    """Mean and unbiased standard deviation over every value of the spectrograms."""
    band_statistics: Statistics
    """The same, band by band."""
    fingerprint: str
    """Hash of the corpus, the front end and the type."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were left out, and why."""
    checksums: tuple[str, ...] = ()
    """SHA-256 of each shard; empty in memory."""
    sample_rate: int | None = None
    """Rate of stored waves, Hz."""

    @property
    def stores(self) -> Stores:
        """What the shards hold."""
        return "wav" if self.dtype == "int16" else "spec"

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row of a shard: the bands of a frame, or a sample."""
        return () if self.stores == "wav" else (self.frontend.n_mels,)


def dequantise(stored: Tensor) -> Float[Tensor, "*shape"]:
    """Stored values as float32 log-mel, on whichever device they are."""
    values = stored.float()
    return values * UINT8_STEP + UINT8_FLOOR if stored.dtype == torch.uint8 else values


def quantise_wave(wav: Float[np.ndarray, " S"]) -> Int16[np.ndarray, " S"]:
    """Samples as they are stored; a 16-bit file comes through unchanged, what is louder than full scale is clipped."""
    return np.clip(np.rint(wav * np.float32(INT16_SCALE)), -INT16_SCALE, INT16_SCALE - 1).astype(np.int16)


def quantise(spec: Float[np.ndarray, "T F"], dtype: Dtype) -> Frames:
    """Log-mel as it is stored."""
    if dtype == "float16":
        return spec.astype(np.float16)
    steps = np.rint((spec - np.float32(UINT8_FLOOR)) * np.float32(1 / UINT8_STEP))
    return np.asarray(np.clip(steps, 0, 255), np.uint8)


def describe(header: Header, index: Index) -> dict[str, Any]:
    """What the file `HEADER` holds, as plain values."""
    counts = {"clips": len(index.frames), "seconds": round(float(index.seconds.sum()), 3), "frames": int(index.frames.sum())}
    return {"format": FORMAT, **counts, "header": asdict(header)}


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.bin"
