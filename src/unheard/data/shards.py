"""Packed spectrograms: clips of any length back to back in a few large arrays, on disk or in memory.

A packed corpus is a folder:

    shard-00000.bin ...   log-mel, frames x mel (time-major), little-endian float16 or uint8, clip after clip, no header
    index.npz             for each clip: shard, offset and frames (in frames), path, domain, start and seconds in its file
    dataset.json          format version, front end, dtype, statistics, counts, skipped files, size and SHA-256 of each shard

uint8 values q stand for `UINT8_FLOOR` + q * `UINT8_STEP`: 24 nats, with a rounding error of 0.027 nat rms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.config import from_json
from unheard.data.corpus import Skipped
from unheard.data.crops import Pieces
from unheard.errors import ConfigError, DataError

FORMAT = 1
"""Version of the layout above; a higher one is refused."""

UINT8_FLOOR, UINT8_STEP = -16.0, 24.0 / 255
"""Natural-log range of uint8 shards: silence is -15.94 and full-scale sound stays below 8 (our choice)."""

HEADER, INDEX = "dataset.json", "index.npz"

Dtype = Literal["float16", "uint8"]
Frames = NDArray[Any]
"""Stored values, float16 or uint8."""


@dataclass(frozen=True)
class Index:
    """Where each clip lies; arrays with one entry a clip."""

    shard: Int64[np.ndarray, " n"]
    """Number of its shard."""
    offset: Int64[np.ndarray, " n"]
    """Its first frame in the shard."""
    frames: Int64[np.ndarray, " n"]
    """How many frames it has."""
    path: Shaped[np.ndarray, " n"]
    """File it was read from, relative to the corpus."""
    domain: Shaped[np.ndarray, " n"]
    """Kind of sound; may be empty."""
    start: Float64[np.ndarray, " n"]
    """Where it begins in the file, in seconds."""
    seconds: Float64[np.ndarray, " n"]
    """How long it is."""


@dataclass(frozen=True)
class Header:
    """What holds for a whole packed corpus."""

    frontend: LogMelConfig
    """How the spectrograms were made."""
    dtype: Dtype
    """Type of the stored values."""
    statistics: Statistics
    """Mean and unbiased standard deviation over every value."""
    band_statistics: Statistics
    """The same, band by band."""
    fingerprint: str
    """Hash of the corpus, the front end and the type."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were left out, and why."""
    checksums: tuple[str, ...] = ()
    """SHA-256 of each shard; empty in memory."""


class SpecStore:
    """Packed spectrograms, ready to be cropped.

    Parameters
    ----------
    header : Header
    index : Index
    shards : sequence of arrays, (frames, F)
        Maps of the shard files, or arrays in memory.
    folder : Path, optional
        Where the shards lie.
    """

    def __init__(self, header: Header, index: Index, shards: Sequence[Frames], folder: Path | None = None) -> None:
        self.header, self.index, self.shards, self.folder = header, index, tuple(shards), folder
        self.frontend, self.statistics, self.band_statistics = header.frontend, header.statistics, header.band_statistics
        self.fingerprint, self.skipped, self.frames = header.fingerprint, header.skipped, index.frames
        self.names: list[str] = index.path.tolist()
        self.domains: list[str] = index.domain.tolist()
        self._bytes = [np.asarray(shard).reshape(-1).view(np.uint8) for shard in self.shards]
        self._row = self.frontend.n_mels * np.dtype(header.dtype).itemsize

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds_total(self) -> float:
        """Seconds of sound."""
        return float(self.index.seconds.sum())

    def gather(self, ids: Int64[np.ndarray, " B"], starts: Int64[np.ndarray, " B"], width: int) -> tuple[Frames, Int64[np.ndarray, " B"]]:
        """Windows of ``width`` frames from frame ``starts`` of clips ``ids``.

        Returns
        -------
        windows : array, (B, width, F)
            Stored values; 0 behind the end of a clip.
        real : Int64[ndarray, "B"]
            Frames of each window that are the clip's.
        """
        ids, starts = np.asarray(ids, np.int64), np.asarray(starts, np.int64)
        real = np.minimum(self.frames[ids] - starts, width)
        rows = np.arange(len(ids), dtype=np.int64)
        return self.fill(Pieces(rows, ids, starts, np.zeros_like(rows), real), len(ids), width), real

    def fill(self, pieces: Pieces, batch: int, width: int) -> Frames:
        """A batch of windows made of ``pieces``, (B, width, F); 0 where no piece lies.

        Plain byte copies: a copy is one contiguous run, so this moves memory as fast as the machine can.
        """
        out = (np.empty if pieces.full(batch, width) else np.zeros)(batch * width * self._row, np.uint8)
        sources = self.index.shard[pieces.ids].tolist()
        first = ((self.index.offset[pieces.ids] + pieces.starts) * self._row).tolist()
        to = ((pieces.windows * width + pieces.offsets) * self._row).tolist()
        for source, a, b, size in zip(sources, first, to, (pieces.lengths * self._row).tolist(), strict=True):
            out[b : b + size] = self._bytes[source][a : a + size]
        return np.asarray(out.view(self.header.dtype).reshape(batch, width, self.frontend.n_mels))

    def clip(self, number: int) -> Float[np.ndarray, "T F"]:
        """The whole log-mel of one clip, float32."""
        stored, _ = self.gather(np.array([number]), np.array([0]), int(self.frames[number]))
        return dequantise(torch.from_numpy(stored[0])).numpy()

    def verify(self) -> None:
        """Compare every shard with its checksum. A store in memory has none and passes.

        Raises
        ------
        DataError
            Naming the shards that differ.
        """
        kept = zip(self._bytes, self.header.checksums, strict=False)
        differing = [shard_name(i) for i, (values, checksum) in enumerate(kept) if hashlib.sha256(values.data).hexdigest() != checksum]
        if differing:
            raise DataError(f"{self.folder}: {', '.join(differing)} differ from their checksums; pack the corpus again into a new folder")


def dequantise(stored: Tensor) -> Float[Tensor, "*shape"]:
    """Stored values as float32 log-mel, on whichever device they are."""
    values = stored.float()
    return values * UINT8_STEP + UINT8_FLOOR if stored.dtype == torch.uint8 else values


def quantise(spec: Float[np.ndarray, "T F"], dtype: Dtype) -> Frames:
    """Log-mel as it is stored."""
    if dtype == "float16":
        return spec.astype(np.float16)
    steps = np.rint((spec - np.float32(UINT8_FLOOR)) * np.float32(1 / UINT8_STEP))
    return np.asarray(np.clip(steps, 0, 255), np.uint8)


def open_store(path: str | Path) -> SpecStore:
    """Open a packed corpus; its shards are mapped, not read.

    Raises
    ------
    DataError
        When the folder holds none, was packed with a newer version of the format, or a shard is missing or cut.
    """
    folder = Path(path)
    try:
        stored = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        if stored["format"] > FORMAT:
            raise DataError(f"{folder}: packed in format {stored['format']}, this version reads up to {FORMAT}; upgrade unheard")
        header = from_json(Header, stored["header"])
        with np.load(folder / INDEX, allow_pickle=False) as arrays:
            index = Index(**{field.name: arrays[field.name] for field in fields(Index)})
    except (OSError, KeyError, ValueError, TypeError, ConfigError) as error:
        raise DataError(f"{folder}: not a packed corpus ({error}); make one with: unheard data pack DIR -o {folder}") from error
    n_mels = header.frontend.n_mels
    row = n_mels * np.dtype(header.dtype).itemsize
    shards: list[Frames] = []
    for number, frames in enumerate(stored["frames"]):
        file = folder / shard_name(number)
        size = file.stat().st_size if file.is_file() else -1
        if size != frames * row:
            found = "is missing" if size < 0 else f"has {size} bytes instead of {frames * row}"
            raise DataError(f"{file} {found}; copy it again, or pack the corpus again")
        empty: Frames = np.empty((0, n_mels), header.dtype)  # an empty file cannot be mapped
        shards.append(np.memmap(file, header.dtype, mode="r", shape=(frames, n_mels)) if frames else empty)
    return SpecStore(header, index, shards, folder)


def describe(header: Header, index: Index, shard_frames: list[int]) -> dict[str, Any]:
    """What the file `HEADER` holds, as plain values."""
    counts = {"clips": len(index.frames), "seconds": round(float(index.seconds.sum()), 3), "frames": shard_frames}
    return {"format": FORMAT, **counts, "header": asdict(header)}


def check_frontend(store: SpecStore, wanted: LogMelConfig) -> None:
    """Refuse a store whose spectrograms are not the wanted ones.

    Raises
    ------
    DataError
        Naming the fields that differ.
    """
    have, want = asdict(store.frontend), asdict(wanted)
    differing = [f"{name} is {have[name]}, wanted {want[name]}" for name in want if have.get(name) != want[name]]
    if differing:
        raise DataError(
            f"the packed corpus {store.folder or ''} has another front end: {'; '.join(differing)}; pack the audio again for this recipe"
        )


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.bin"
