"""Stored targets of a corpus: a teacher's map of every clip, at its own frame rate, as float16.

shard-00000.bin ...   clip after clip, columns x rows x channels, float16, no header
index.npz             for each clip: shard, offset and number of columns; centres of all columns in seconds
projection.npz        with --pca: the projection of the channels
targets.json          written last: teacher, corpus, statistics of the channels, SHA-256 of every other file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int64

from unheard.addresses import named
from unheard.audio.frontend import Statistics
from unheard.config import from_json
from unheard.data.mapping import map_arrays
from unheard.data.shard_layout import INDEX, shard_name, sounds_fingerprint
from unheard.data.store import Store
from unheard.errors import ConfigError, DataError
from unheard.files import FILES, differing_files, json_checksum, read_json
from unheard.remote.listing import is_file
from unheard.remote.reading import copied_folder, local_folder
from unheard.teachers.align import interpolation

HEADER, FORMAT = "targets.json", 1


@dataclass(frozen=True)
class TargetsHeader:
    """Metadata of stored targets."""

    name: str
    """Name of the teacher, as it was given."""
    teacher: str
    """Description of the teacher."""
    key: str
    """Hash of corpus, teacher and settings."""
    sounds: str
    """Hash of the sounds."""
    clips: int
    """Number of clips."""
    seconds: float
    """Length of all clips."""
    dim: int
    """Channels."""
    edges: tuple[float, ...]
    """Frequencies in Hz at which a new row begins."""
    statistics: Statistics
    """Mean and deviation of each channel over all columns and rows."""
    stage: Literal["final", "middle"] = "final"
    """Feature map of CLAP."""
    projected: bool = False
    """Whether CLAP's map was projected into the space of audio and text."""
    pca: int | None = None
    """Channels kept by the projection."""
    explained: float | None = None
    """Share of the variance that they hold in the sampled frames."""


@dataclass(frozen=True)
class TargetsIndex:
    """Position of each clip's map; arrays with one entry for each clip, but ``times``."""

    shard: Int64[np.ndarray, " n"]
    """Number of its shard."""
    offset: Int64[np.ndarray, " n"]
    """Its first column in the shard."""
    columns: Int64[np.ndarray, " n"]
    """Number of its columns."""
    times: Float64[np.ndarray, " columns"]
    """Centres of the columns of all clips, in seconds from the start of each clip."""

    @cached_property
    def first(self) -> Int64[np.ndarray, " n"]:
        """Return the place of each clip's first column in ``times``."""
        return np.asarray(np.cumsum(self.columns) - self.columns)


class StoredTargets:
    """Stored targets, open for reading; shards are mapped.

    Parameters
    ----------
    folder : Path
        The folder, or its address.
    header : TargetsHeader
    index : TargetsIndex
    checksums : mapping
        SHA-256 of each file.
    """

    def __init__(self, folder: Path, header: TargetsHeader, index: TargetsIndex, checksums: Mapping[str, str]) -> None:
        self.folder, self.header, self.index, self.checksums = folder, header, index, checksums
        copy = local_folder(folder)
        self.rows = len(header.edges) + 1
        counts = np.bincount(index.shard, index.columns).astype(int).tolist()
        self.shards = [_map(copy / shard_name(i), (rows, self.rows, header.dim)) for i, rows in enumerate(counts)]

    @property
    def fingerprint(self) -> str:
        """Hash of the metadata and of every stored value."""
        return json_checksum({"header": asdict(self.header), FILES: dict(self.checksums)})[:16]

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        DataError
            Naming the files that differ.
        """
        if differing := differing_files(local_folder(self.folder), self.checksums):
            raise DataError(
                f"{named(self.folder)}: {', '.join(differing)} differ from their checksums; compute them again"
            )

    def check_corpus(self, store: Store) -> None:
        """Check that these are the targets of a corpus.

        Raises
        ------
        DataError
            When they are of another corpus, or the corpus has changed since.
        """
        if self.header.sounds != sounds_fingerprint(store.header, store.index):
            raise DataError(
                f"{named(self.folder)} holds targets of another corpus, or the corpus has changed since they were"
                f" stored ({self.header.clips} clips, {self.header.seconds / 3600:.2f} hours; the corpus has"
                f" {len(store)} clips, {store.seconds_total / 3600:.2f} hours); compute them again: unheard data"
                f" targets CORPUS --teacher {self.header.name} -o NEW"
            )

    def columns_at(
        self, clips: Int64[np.ndarray, " B"], centres: Float64[np.ndarray, "B t"]
    ) -> tuple[Float16[np.ndarray, "B U f C"], Float32[np.ndarray, "B t U"]]:
        """Return the columns of clips around some times, and the weights that interpolate them at these times.

        Parameters
        ----------
        centres : Float64[ndarray, "B t"]
            In seconds from the start of each clip. Beyond the first and the last column the map is constant.

        Returns
        -------
        columns : Float16[ndarray, "B U f C"]
            Zero where a clip needs fewer than U columns.
        weights : Float32[ndarray, "B t U"]
            Linear interpolation in time; rows sum to 1.
        """
        index, needed, parts = self.index, [], []
        for clip, at in zip(clips.tolist(), centres, strict=True):
            count, first = int(index.columns[clip]), int(index.first[clip])
            times = index.times[first : first + count]
            right = np.clip(np.searchsorted(times, at), 1, max(1, count - 1))
            used = np.unique(np.concatenate([right - 1, np.minimum(right, count - 1)]))
            needed.append(used)
            parts.append(interpolation(at, times[used]))
        most = max(map(len, needed))
        columns = np.zeros((len(clips), most, self.rows, self.header.dim), np.float16)
        weights = np.zeros((*centres.shape, most), np.float32)
        for row, (clip, used, part) in enumerate(zip(clips.tolist(), needed, parts, strict=True)):
            columns[row, : len(used)] = self.shards[index.shard[clip]][index.offset[clip] + used]
            weights[row, :, : len(used)] = part
        return columns, weights


def is_stored(folder: Path) -> bool:
    """Return whether a folder holds stored targets, finished or not."""
    if is_file(folder / HEADER):
        return True
    return folder.is_dir() and any(folder.glob("shard-*")) and not (folder / "dataset.json").is_file()


def open_targets(path: str | Path) -> StoredTargets:
    """Open stored targets. Those at an address are copied first, whole.

    Raises
    ------
    DataError
        When they are not finished, damaged, of a newer version, or a shard is missing.
    """
    if not is_file(Path(path) / HEADER):
        raise DataError(
            f"{named(path)} holds no finished targets; complete them with the same command: unheard data targets CORPUS"
            f" --teacher NAME -o {named(path)}"
        )
    with copied_folder(path) as copy:
        return _opened(Path(path), copy)


def _opened(origin: Path, folder: Path) -> StoredTargets:
    """Open the targets in a local folder; it is the copy of ``origin`` if that is an address."""
    try:
        stored: dict[str, Any] = read_json(folder / HEADER, DataError, "compute the targets again")
        if stored["format"] != FORMAT:
            raise DataError(f"{folder}: stored in format {stored['format']}, this version reads {FORMAT}")
        header, checksums = from_json(TargetsHeader, stored["header"]), stored[FILES]
        if differing_files(folder, {INDEX: checksums[INDEX]}):
            raise DataError(f"{folder}/{INDEX} is missing or differs from its checksum; compute the targets again")
        index = TargetsIndex(**map_arrays(folder / INDEX))
    except (OSError, KeyError, ValueError, TypeError, ConfigError) as error:
        raise DataError(f"{folder}: cannot be read as stored targets ({error}); compute them again") from error
    return StoredTargets(origin, header, index, checksums)


def _map(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Map a shard as an array, without reading it."""
    size = file.stat().st_size if file.is_file() else -1
    if size != int(np.prod(shape)) * 2:
        found = "is missing" if size < 0 else f"has {size} bytes instead of {int(np.prod(shape)) * 2}"
        raise DataError(f"{file} {found}; copy it again, or compute the targets again")
    return np.memmap(file, np.float16, mode="r", shape=shape)
