"""How a packed corpus is stored: clips of any length back to back in a few large arrays, on disk or in memory.

A packed corpus is a folder:

    shard-00000.bin ...   clip after clip, little-endian, no header: spectrograms, frames x mel (time-major), float16 or uint8,
                          or mono waves, int16
    index.npz             for each clip: shard, offset and length (in rows: frames or samples), frames, path, domain, start and
                          seconds in its file
    dataset.json          format version, front end, dtype, rate, statistics, counts, skipped files, SHA-256 of each other file

uint8 values q stand for low + q * (high - low) / 255, where (low, high) is the range of the front end for samples in
[-1, 1], see `value_range`. For MSM-MAE's log-mel this rounds with an error of 0.027 nat rms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int16, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from unheard.audio.framing import INT16_SCALE
from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.audio.frontends import AnyFrontendConfig, FrontendConfig, build_frontend
from unheard.audio.kaldi import EMPHASIS
from unheard.data.corpus import Skipped

FORMAT = 2
"""Version of the layout above; another one is refused."""

HEADER, INDEX = "dataset.json", "index.npz"

Dtype = Literal["float16", "uint8", "int16"]
Stores = Literal["spec", "wav"]
Frames = NDArray[Any]
"""Stored values, rows first."""


@dataclass(frozen=True)
class Texts:
    """A column of texts, one behind the other: one long text does not make the others longer, as in an array of
    strings.
    """

    utf8: UInt8[np.ndarray, " bytes"]
    """Every text in UTF-8; bytes of file names that are no UTF-8 are kept."""
    ends: Int64[np.ndarray, " n"]
    """Where each ends."""

    @staticmethod
    def of(texts: Sequence[str]) -> Texts:
        """The column of some texts."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        return Texts(
            np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)
        )

    def tolist(self) -> list[str]:
        """The texts."""
        flat, ends = self.utf8.tobytes(), self.ends.tolist()
        return [flat[a:b].decode("utf-8", "surrogateescape") for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True)
class Index:
    """Where each clip lies; arrays with one entry a clip."""

    shard: Int64[np.ndarray, " n"]
    """Number of its shard."""
    offset: Int64[np.ndarray, " n"]
    """Its first row in the shard: a frame, or a sample of a wave."""
    frames: Int64[np.ndarray, " n"]
    """How many frames it has, or gives."""
    path: Texts
    """File it was read from, relative to the corpus."""
    domain: Texts
    """Kind of sound; may be empty."""
    start: Float64[np.ndarray, " n"]
    """Where it begins in the file, in seconds."""
    seconds: Float64[np.ndarray, " n"]
    """How long it is."""
    samples: Int64[np.ndarray, " n"] | None = None
    """How many samples it has, where waves are stored."""
    label: Texts | None = None
    """Its labels, joined by ``|``; empty where none were given."""
    caption: Texts | None = None
    """Its caption; empty where none was given."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What the file `INDEX` holds: numbers as they are, a column of texts as ``NAME.utf8`` and ``NAME.ends``."""
        columns = {name: values for name, values in vars(self).items() if values is not None}
        texts = {name: values for name, values in columns.items() if isinstance(values, Texts)}
        numbers = {name: values for name, values in columns.items() if name not in texts}
        return numbers | {
            f"{name}.{part}": values for name, text in texts.items() for part, values in vars(text).items()
        }

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> Index:
        """The index that `arrays` came from.

        Raises
        ------
        KeyError, TypeError
            When a column is missing.
        """
        names = [name.removesuffix(".ends") for name in arrays if name.endswith(".ends")]
        texts = {name: Texts(arrays[f"{name}.utf8"], arrays[f"{name}.ends"]) for name in names}
        columns: dict[str, Any] = {**{name: arrays[name] for name in arrays if "." not in name}, **texts}
        return Index(**columns)

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
    sample_rate: int | None = None
    """Rate of stored waves, Hz."""
    value_range: tuple[float, float] | None = None
    """What 0 and 255 of uint8 values stand for."""
    clipped: int = 0
    """Values outside the range of uint8 or int16, which were stored as its nearest end."""

    @property
    def kind(self) -> Stores:
        """What the shards hold."""
        return "wav" if self.dtype == "int16" else "spec"

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row of a shard: the bands of a frame, or a sample."""
        return () if self.kind == "wav" else (self.frontend.n_mels,)


def dequantise(stored: Tensor, value_range: tuple[float, float] | None = None) -> Float[Tensor, "*shape"]:
    """Stored values as float32 log-mel, on whichever device they are; ``value_range`` is that of uint8 values."""
    values = stored.float()
    if stored.dtype != torch.uint8 or value_range is None:
        return values
    low, high = value_range
    return values * ((high - low) / 255) + low


def quantise_wave(wav: Float[np.ndarray, " S"]) -> tuple[Int16[np.ndarray, " S"], int]:
    """Samples as they are stored, and how many are louder than full scale and were clipped; a 16-bit file comes through
    unchanged.
    """
    steps = np.rint(wav * np.float32(INT16_SCALE))
    return np.clip(steps, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16), _outside(steps, -INT16_SCALE, INT16_SCALE)


def quantise(
    spec: Float[np.ndarray, "T F"], dtype: Dtype, value_range: tuple[float, float] | None = None
) -> tuple[Frames, int]:
    """Log-mel as it is stored, and how many values lie outside the range of uint8 and were clipped."""
    if dtype == "float16" or value_range is None:
        return spec.astype(np.float16), 0
    low, high = value_range
    steps = np.rint((spec - np.float32(low)) * np.float32(255 / (high - low)))
    return np.asarray(np.clip(steps, 0, 255), np.uint8), _outside(steps, 0, 255)


def value_range(frontend: AnyFrontendConfig) -> tuple[float, float]:
    """The smallest range of whole numbers that holds every value of a front end, for samples in [-1, 1].

    Silence gives the lower end. By Parseval's theorem no band has more energy than its largest weight times the energy
    of a frame:

        max_k w[k] * n_fft / 2 * sum(window^2) * (1 + emphasis)^2
    """
    built = build_frontend(frontend)
    emphasis = 0.0 if isinstance(frontend, LogMelConfig) else EMPHASIS
    energy = frontend.n_fft / 2 * float(built.window.square().sum()) * (1 + emphasis) ** 2
    low, high = built.compress(torch.tensor([0.0, energy * float(built.mel.max())], dtype=torch.float64)).tolist()
    return math.floor(low), math.ceil(high)


def _outside(steps: np.ndarray, low: float, high: float) -> int:
    return int(np.count_nonzero((steps < low) | (steps > high)))


def describe(header: Header, index: Index) -> dict[str, Any]:
    """What the file `HEADER` holds, as plain values."""
    counts = {
        "clips": len(index.frames),
        "seconds": round(float(index.seconds.sum()), 3),
        "frames": int(index.frames.sum()),
    }
    return {"format": FORMAT, **counts, "header": asdict(header)}


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.bin"
