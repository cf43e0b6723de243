"""A teacher's maps on disk, one for each clip, so that each clip is heard once and not in every epoch.

    targets.bin   float16, clips x C x f x t, no header       heard.bin   one byte a clip: 1 when its map is there

Only where every clip is heard whole: a random crop sounds different each time.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unheard.errors import DataError
from unheard.files import atomic_write


class TargetCache:
    """Maps of the clips of one corpus, kept under the teacher's fingerprint.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
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
            self._heard = _array(folder / "heard.bin", np.dtype(np.uint8), (clips,))
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written ({error}); make room, or switch the cache off with objectives.clap.cache=false"
            ) from error

    def known(self, clips: Int64[np.ndarray, " B"]) -> bool:
        """Whether all of these clips have been heard."""
        return bool(self._heard[clips].all())

    def read(self, clips: Int64[np.ndarray, " B"]) -> Float[Tensor, "B C f t"]:
        """Their maps, float16."""
        return torch.from_numpy(np.asarray(self._maps[clips]))

    def write(self, clips: Int64[np.ndarray, " B"], maps: Float[Tensor, "B C f t"]) -> None:
        """Keep maps; a clip counts as heard only after its map is there."""
        self._maps[clips] = maps.to(torch.float16).cpu().numpy()
        self._heard[clips] = 1


def _array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A file of zeros of the right size, or the one that is there."""
    size = int(np.prod(shape)) * dtype.itemsize
    if not file.exists():
        with atomic_write(file) as unfinished, unfinished.open("wb") as empty:
            if hasattr(os, "posix_fallocate"):  # a full disk should say so now; found out while mapped, it ends the program
                os.posix_fallocate(empty.fileno(), 0, size)
            empty.truncate(size)
    if file.stat().st_size != size:
        raise DataError(
            f"{file} has {file.stat().st_size} bytes instead of {size}: it belongs to another corpus or window; remove its folder"
        )
    return np.memmap(file, dtype, mode="r+", shape=shape)
