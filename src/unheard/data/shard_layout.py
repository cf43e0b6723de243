"""Layout of a packed corpus: clips of any length, concatenated in a few large arrays, on disk or in memory.

A packed corpus is a folder:

    shard-00000.bin ...   clip after clip, little-endian, no header: spectrograms, frames x mel (time-major), float16 or
                          uint8, or mono waves, int16
    index.npz             for each clip: shard, offset and length (in rows: frames or samples), frames, path, domain,
                          start and seconds in its file
    dataset.json          format version, front end, dtype, rate, statistics, counts, skipped files, SHA-256 of each
                          other file

uint8 values q represent low + q * (high - low) / 255, where (low, high) is the range of the front end for samples in
[-1, 1], see `value_range`. For MSM-MAE's log-mel the rounding error is 0.027 nat rms.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int16, Int32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from unheard.audio.decibels import DbMinMaxConfig
from unheard.audio.framing import INT16_SCALE
from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.audio.frontend_kinds import AnyFrontendConfig, FrontendConfig, build_frontend
from unheard.audio.kaldi import EMPHASIS
from unheard.data.corpus import Skipped

FORMAT = 2
"""Version of the layout above; another one is refused."""

AT_ONCE = 100_000
"""Texts of a column that are read at once (our choice)."""

HEADER, INDEX = "dataset.json", "index.npz"

Dtype = Literal["float16", "uint8", "int16"]
Stores = Literal["spec", "wav"]
Frames = NDArray[Any]
"""Stored values, rows first."""


@dataclass(frozen=True, eq=False)
class Texts:
    """A column of texts, concatenated: unlike in an array of strings, a long text does not lengthen the others."""

    utf8: UInt8[np.ndarray, " bytes"]
    """Every text in UTF-8; invalid bytes of file names are kept."""
    ends: Int64[np.ndarray, " n"]
    """End of each text."""

    @staticmethod
    def of(texts: Sequence[str]) -> Texts:
        """Return the column of some texts."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        return Texts(
            np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)
        )

    def tolist(self) -> list[str]:
        """Return the texts."""
        flat, ends = self.utf8.tobytes(), self.ends.tolist()
        return [flat[a:b].decode("utf-8", "surrogateescape") for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def categories(self) -> tuple[list[str], Int32[np.ndarray, " n"]]:
        """Return the different texts, sorted, and the number of each entry's text among them.

        Equal texts are in memory once.
        """
        known: dict[bytes, int] = {}
        numbers = np.empty(len(self), np.int32)
        for first in range(0, len(self), AT_ONCE):
            ends = self.ends[first : first + AT_ONCE].tolist()
            begin = int(self.ends[first - 1]) if first else 0
            flat = self.utf8[begin : ends[-1]].tobytes()
            for entry, (a, b) in enumerate(zip([begin, *ends[:-1]], ends, strict=True), start=first):
                numbers[entry] = known.setdefault(flat[a - begin : b - begin], len(known))
        texts = [text.decode("utf-8", "surrogateescape") for text in known]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        return [texts[number] for number in order], np.argsort(order).astype(np.int32)[numbers]

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __getitem__(self, number: int) -> str:
        begin = int(self.ends[number - 1]) if number else 0
        return self.utf8[begin : int(self.ends[number])].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Index:
    """Position of each clip; arrays with one entry for each clip."""

    shard: Int64[np.ndarray, " n"]
    """Number of its shard."""
    offset: Int64[np.ndarray, " n"]
    """Its first row in the shard: a frame, or a sample of a wave."""
    frames: Int64[np.ndarray, " n"]
    """Number of its frames, stored or computed."""
    path: Texts
    """File it was read from, relative to the corpus."""
    domain: Texts
    """Kind of sound; may be empty."""
    start: Float64[np.ndarray, " n"]
    """Start in the file, in seconds."""
    seconds: Float64[np.ndarray, " n"]
    """Length in seconds."""
    samples: Int64[np.ndarray, " n"] | None = None
    """Number of its samples, if waves are stored."""
    label: Texts | None = None
    """Its labels, joined by ``|``; empty without labels."""
    caption: Texts | None = None
    """Its caption; empty without one."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the content of the file `INDEX`: numbers as arrays, a column of texts as ``NAME.utf8`` and
        ``NAME.ends``.
        """
        columns = {name: values for name, values in vars(self).items() if values is not None}
        texts = {name: values for name, values in columns.items() if isinstance(values, Texts)}
        numbers = {name: values for name, values in columns.items() if name not in texts}
        return numbers | {
            f"{name}.{part}": values for name, text in texts.items() for part, values in vars(text).items()
        }

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> Index:
        """Return the index from the result of `arrays`.

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
        """Return the number of rows of each clip in its shard."""
        return self.frames if self.samples is None else self.samples


@dataclass(frozen=True)
class Header:
    """Metadata of a packed corpus."""

    frontend: FrontendConfig
    """Front end of the spectrograms, stored or computed later."""
    dtype: Dtype
    """Type of the stored values; int16 means waves."""
    statistics: Statistics
    """Mean and unbiased standard deviation over every value of the spectrograms."""
    band_statistics: Statistics
    """The same for each band."""
    fingerprint: str
    """Hash of the corpus, the front end and the type."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were left out, and the reasons."""
    sample_rate: int | None = None
    """Rate of stored waves, Hz."""
    value_range: tuple[float, float] | None = None
    """Values of 0 and 255 in uint8."""
    sounds: str = ""
    """Hash of the sounds, whatever they are stored as; empty in corpora of earlier versions."""
    clipped: int = 0
    """Number of values outside the range of uint8 or int16, stored as the nearest end."""
    held_out: int = 0
    """Number of clips that were left out because the manifest reserves them for testing."""

    @property
    def notes(self) -> list[str]:
        """Return what a user should know of the stored sounds."""
        notes = [f"{self.held_out} held-out clips were left out"] if self.held_out else []
        if self.clipped:
            kind = "samples were above full scale" if self.kind == "wav" else f"values were outside of {self.dtype}"
            notes.append(f"{self.clipped} {kind} and were clipped")
        return notes

    @property
    def kind(self) -> Stores:
        """Return the kind of the stored data."""
        return "wav" if self.dtype == "int16" else "spec"

    @property
    def row(self) -> tuple[int, ...]:
        """Return the shape of one row of a shard: the bands of a frame, or a sample."""
        return () if self.kind == "wav" else (self.frontend.n_mels,)


def sounds_fingerprint(header: Header, index: Index) -> str:
    """Return a hash of the clips that is the same for spectrograms and waves of the same sounds."""
    digest = hashlib.sha256((header.sounds or header.fingerprint).encode())
    for column in (index.path.utf8, index.path.ends, index.start, index.seconds):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def dequantise(stored: Tensor, value_range: tuple[float, float] | None = None) -> Float[Tensor, "*shape"]:
    """Return stored values as float32 log-mel, on any device; ``value_range`` is that of uint8 values."""
    values = stored.float()
    if stored.dtype != torch.uint8 or value_range is None:
        return values
    low, high = value_range
    return values * ((high - low) / 255) + low


def quantise_wave(wav: Float[np.ndarray, " S"]) -> tuple[Int16[np.ndarray, " S"], int]:
    """Return samples as stored, and how many were clipped because they exceed full scale; 16-bit files stay
    unchanged.
    """
    steps = np.rint(wav * np.float32(INT16_SCALE))
    return np.clip(steps, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16), _outside(steps, -INT16_SCALE, INT16_SCALE)


def quantise(
    spec: Float[np.ndarray, "T F"], dtype: Dtype, value_range: tuple[float, float] | None = None
) -> tuple[Frames, int]:
    """Return log-mel as stored, and how many values were clipped because they lie outside the range of uint8."""
    if dtype == "float16" or value_range is None:
        return spec.astype(np.float16), 0
    low, high = value_range
    steps = np.rint((spec - np.float32(low)) * np.float32(255 / (high - low)))
    return np.asarray(np.clip(steps, 0, 255), np.uint8), _outside(steps, 0, 255)


def value_range(frontend: AnyFrontendConfig) -> tuple[float, float]:
    """Return the smallest range of whole numbers that contains every value of a front end, for samples in [-1, 1].

    Silence gives the lower end. By Parseval's theorem no band has more energy than its largest weight times the energy
    of a frame:

        max_k w[k] * n_fft / 2 * sum(window^2) * (1 + emphasis)^2
    """
    built = build_frontend(frontend)
    emphasis = 0.0 if isinstance(frontend, LogMelConfig | DbMinMaxConfig) else EMPHASIS
    energy = frontend.n_fft / 2 * float(built.window.square().sum()) * (1 + emphasis) ** 2
    low, high = built.compress(torch.tensor([0.0, energy * float(built.mel.max())], dtype=torch.float64)).tolist()
    return math.floor(low), math.ceil(high)


def _outside(steps: np.ndarray, low: float, high: float) -> int:
    return int(np.count_nonzero((steps < low) | (steps > high)))


def describe(header: Header, index: Index) -> dict[str, Any]:
    """Return the content of the file `HEADER`, as plain values."""
    counts = {
        "clips": len(index.frames),
        "seconds": round(float(index.seconds.sum()), 3),
        "frames": int(index.frames.sum()),
    }
    return {"format": FORMAT, **counts, "header": asdict(header)}


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.bin"
