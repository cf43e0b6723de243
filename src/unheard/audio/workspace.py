"""Buffers that a front end keeps for each thread to transform single clips quickly on a CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

BLOCK_FRAMES = 512
"""Frames transformed at once on a CPU: few enough for the cache, enough to amortise the cost of calls (our choice,
measured).
"""

Band = tuple[slice, slice, NDArray[np.float32]]
"""Bins, bands and the weights between them, (bins, bands)."""


class FrontendWorkspace(threading.local):
    """Workspace of `Frontend.spectrogram_cpu`, one for each thread; copies and pickles of a front end start without
    one.
    """

    def __init__(self) -> None:
        self.held: tuple[list[Band], Tensor] | None = None

    def get(self, mel: Tensor, n_fft: int) -> tuple[list[Band], Tensor]:
        """Return the mel weights in groups of bands, and a zeroed buffer for the windowed frames of one block."""
        if self.held is None:
            with torch.inference_mode(False):  # kept for later calls, which may run outside of inference mode
                self.held = (mel_blocks(mel.detach().cpu().numpy()), torch.zeros(BLOCK_FRAMES, n_fft))
        return self.held

    def __reduce__(self) -> tuple[Any, ...]:
        return FrontendWorkspace, ()


def mel_blocks(matrix: Float32[np.ndarray, "F K"]) -> list[Band]:
    """Split the mel matrix into five blocks (bins, mels, weights). Most of it is zero, and the blocks omit two
    thirds.
    """
    bands = []
    for group in np.array_split(np.arange(len(matrix)), min(5, len(matrix))):
        mels = slice(int(group[0]), int(group[-1]) + 1)
        used = np.flatnonzero(matrix[mels].any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        bands.append((bins, mels, np.ascontiguousarray(matrix[mels, bins].T)))
    return bands
