"""Principal components of a teacher's channels, so that a wide teacher does not dominate a small student.

y = V (x - m),   V: the K eigenvectors of the covariance of x with the largest eigenvalues
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from unheard.errors import ConfigError
from unheard.files import atomic_write

FILE = "projection.npz"


@dataclass(frozen=True)
class Projection:
    """The projection of C channels to K."""

    matrix: Float32[np.ndarray, "K C"]
    mean: Float32[np.ndarray, " C"]
    explained: float
    """Share of the variance that the K channels hold."""

    def __call__(self, maps: Float[Tensor, "n f C"]) -> Float[Tensor, "n f K"]:
        """Project the channels of a map."""
        matrix, mean = (torch.from_numpy(each).to(maps.device) for each in (self.matrix, self.mean))
        projected: Tensor = (maps - mean) @ matrix.T
        return projected

    def save(self, folder: Path, key: str) -> None:
        """Write the file `FILE`, for the job ``key``."""
        with atomic_write(folder / FILE) as unfinished, unfinished.open("wb") as file:
            np.savez(file, matrix=self.matrix, mean=self.mean, explained=self.explained, key=key)

    @classmethod
    def load(cls, folder: Path, key: str) -> Projection | None:
        """Read the file that an earlier run of the same job wrote; None without one."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as stored:
                if str(stored["key"]) != key:
                    return None
                return cls(stored["matrix"], stored["mean"], float(stored["explained"]))
        except (OSError, ValueError, KeyError):
            return None


def fit(samples: Iterable[Float64[np.ndarray, "n C"]], channels: int) -> Projection:
    """Compute the projection to ``channels`` channels, in float64; the largest weight of each is positive.

    Raises
    ------
    ConfigError
        When there are not more channels or positions than that.
    """
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for values in samples:
        count, total, products = count + len(values), total + values.sum(axis=0), products + values.T @ values
    if not channels < len(total) or channels >= count:
        raise ConfigError(
            f"--pca {channels} needs a teacher of more channels and more positions; it has {len(total)} channels, and"
            f" {count} positions were sampled"
        )
    mean = total / count
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    chosen = vectors[:, ::-1][:, :channels].T
    signs = np.sign(chosen[np.arange(channels), np.abs(chosen).argmax(axis=1)])
    explained = float(variances[::-1][:channels].sum() / max(float(variances.sum()), np.finfo(float).tiny))
    return Projection((chosen * signs[:, None]).astype(np.float32), mean.astype(np.float32), explained)
