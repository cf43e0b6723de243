"""What the index and the header of stored targets need of a shard besides its values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float16, Float64


@dataclass
class ShardRecord:
    """Sums of the stored values over columns and rows, for each channel, in float64; and the columns of each clip."""

    count: int = 0
    total: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    """Of each clip."""
    times: list[float] = field(default_factory=list)
    """Centres of the columns of all clips, in seconds from the start of the clip."""

    def add(self, values: Float16[np.ndarray, "n f C"], times: Float64[np.ndarray, " n"]) -> None:
        """Add columns of the map of the last clip."""
        self.columns[-1] += len(times)
        self.times.extend(times.tolist())
        exact = values.reshape(-1, values.shape[-1]).astype(np.float64)
        self.count += len(exact)
        self.total = (np.array(self.total or 0.0) + exact.sum(axis=0)).tolist()
        self.squares = (np.array(self.squares or 0.0) + np.square(exact).sum(axis=0)).tolist()
