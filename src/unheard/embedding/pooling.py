"""Pooling of frames to one vector, in one pass and constant memory."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from unheard.errors import ConfigError

Pool = Literal["mean", "mean+std", "max", "none"]


class Pooling:
    """Accumulates frames of a clip and computes its scene vector.

    Parameters
    ----------
    pool : {"mean", "mean+std", "max", "none"}
        Mean over time, weighted by the real frames of each time step; concatenated mean and standard deviation;
        maximum; or all frames.
    """

    def __init__(self, pool: Pool) -> None:
        if pool not in get_args(Pool):
            raise ConfigError(f"pool must be one of {', '.join(get_args(Pool))}; got {pool!r}")
        self.pool = pool
        self._weight = 0.0
        self._sum: np.ndarray | None = None
        self._square: np.ndarray | None = None
        self._max: np.ndarray | None = None
        self._kept: list[np.ndarray] = []

    def add(self, frames: Float32[np.ndarray, "t D"], weights: Float32[np.ndarray, " t"]) -> None:
        """Add frames; ``weights`` are the numbers of real spectrogram frames of each."""
        if self.pool == "none":
            self._kept.append(frames)
        elif self.pool == "max":
            top = frames.max(axis=0)
            self._max = top if self._max is None else np.maximum(self._max, top)
        else:
            wide = frames.astype(np.float64)
            self._weight += float(weights.sum())
            self._sum = _accumulate(self._sum, weights @ wide)
            self._square = _accumulate(self._square, weights @ np.square(wide))

    def result(self) -> Float32[np.ndarray, "*shape"]:
        """Return the scene vector (D,), (2 D,) for "mean+std", or all frames (T, D) for "none"."""
        if self.pool == "none":
            return np.concatenate(self._kept)
        if self.pool == "max":
            return np.asarray(self._max, dtype=np.float32)
        mean = np.asarray(self._sum) / self._weight
        if self.pool == "mean":
            return mean.astype(np.float32)
        deviation = np.sqrt(np.maximum(np.asarray(self._square) / self._weight - mean**2, 0))
        return np.concatenate([mean, deviation]).astype(np.float32)


def _accumulate(total: np.ndarray | None, value: np.ndarray) -> np.ndarray:
    return value if total is None else total + value
