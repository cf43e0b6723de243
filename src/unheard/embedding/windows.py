"""Cut a spectrogram of any length into windows of the trained duration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from unheard.model.patches import Grid


@dataclass
class Window:
    """A piece of a spectrogram, at most one trained window long.

    Parameters
    ----------
    spec : ndarray
        Log-mel, time-major (frames, F), not normalised.
    start : int
        First frame of the piece in its clip.
    """

    spec: Float32[np.ndarray, "T F"]
    start: int

    @property
    def frames(self) -> int:
        """Return the number of real frames in the window."""
        return len(self.spec)


def cut(blocks: Iterable[Float32[np.ndarray, "_ F"]], width: int, offset: int = 0) -> Iterator[Window]:
    """Yield windows of ``width`` frames from consecutive blocks, from frame ``offset``; the last one may be shorter.

    At most one window and one block are in memory. Nothing is yielded when there are no frames after ``offset``.
    """
    held: list[np.ndarray] = []
    count, start, skip = 0, offset, offset
    for block in blocks:
        rest = block[skip:]
        skip -= len(block) - len(rest)
        held.append(rest)
        count += len(rest)
        while count >= width:
            spec = np.concatenate(held)
            yield Window(spec[:width], start)
            held, count, start = [spec[width:]], count - width, start + width
    if count:
        yield Window(np.concatenate(held), start)


def column_frames(grid: Grid, frames: int) -> Float32[np.ndarray, " t"]:
    """Return the real frames of each time column of a window with ``frames`` frames: the weights of a mean over
    time.
    """
    columns = grid.real_columns(frames)
    ends = np.minimum((np.arange(columns) + 1) * grid.patch_size[1], max(frames, 1))
    return np.diff(ends, prepend=0).astype(np.float32)
