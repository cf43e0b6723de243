"""Cache on disk of a teacher's maps, one for each clip, so that each is computed once and not in every epoch.

    targets.bin    float16, clips x C x f x t, no header
    computed.bin   uint32, the CRC-32 of each clip's map, 0 where there is none

It is used only if every clip fits in one window: the map of a random crop differs each time. A map that differs from
its CRC-32 counts as missing and is recomputed.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unheard.errors import DataError
from unheard.files import atomic_write


class TargetCache:
    """Maps of the clips of one corpus, stored under the teacher's fingerprint.

    Parameters
    ----------
    folder : Path
        Created when missing.
    clips : int
        Clips of the corpus.
    shape : tuple of int
        (C, f, t) of one map.

    Raises
    ------
    DataError
        When the folder cannot be written, or holds maps of another shape.
    """

    def __init__(self, folder: Path, clips: int, shape: tuple[int, int, int]) -> None:
        self.folder, self.shape = folder, shape
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._maps = _array(folder / "targets.bin", np.dtype(np.float16), (clips, *shape))
            self._checksums = _array(folder / "computed.bin", np.dtype(np.uint32), (clips,))
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written ({error}); free some space, or disable the cache with"
                " objectives.clap.cache=false"
            ) from error

    def all_cached(self, clips: Int64[np.ndarray, " B"]) -> bool:
        """Return whether the maps of all of these clips are stored and undamaged."""
        return all(
            stored and stored == _checksum(self._maps[clip])
            for clip, stored in zip(clips, self._checksums[clips], strict=True)
        )

    def read(self, clips: Int64[np.ndarray, " B"]) -> Float[Tensor, "B C f t"]:
        """Return their maps, float16."""
        return torch.from_numpy(np.asarray(self._maps[clips]))

    def write(self, clips: Int64[np.ndarray, " B"], maps: Float[Tensor, "B C f t"]) -> None:
        """Store maps; a clip counts as computed only after its map is written."""
        values = maps.to(torch.float16).cpu().numpy()
        self._maps[clips] = values
        self._checksums[clips] = [_checksum(each) for each in values]


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data) or 1


def _array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Return an existing file as an array, or create one of zeros with the right size."""
    size = int(np.prod(shape)) * dtype.itemsize
    if not file.exists():
        with atomic_write(file) as unfinished, unfinished.open("wb") as empty:
            if hasattr(
                os, "posix_fallocate"
            ):  # a full disk must raise here; a write to a mapped file would end the program
                os.posix_fallocate(empty.fileno(), 0, size)
            empty.truncate(size)
    if file.stat().st_size != size:
        raise DataError(
            f"{file} has {file.stat().st_size} bytes instead of {size}: it belongs to another corpus or window; remove"
            " its folder"
        )
    return np.memmap(file, dtype, mode="r+", shape=shape)
