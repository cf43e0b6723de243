"""Cut a spectrogram of any length, or one that grows, into windows of the trained duration, and batch them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from unheard.audio.framing import Frontend
from unheard.audio.frontend import Statistics
from unheard.devices import to_device
from unheard.errors import ConfigError
from unheard.model.patches import Grid

GPU_FRAMES = 2**16
"""Frames that a GPU transforms at once: 0.1 GB of samples (our choice)."""


@dataclass
class Window:
    """A piece of a clip, at most one trained window long.

    Parameters
    ----------
    spec : ndarray
        Log-mel, time-major (frames, F), not normalised; or samples that a GPU transforms, one row a hop, see
        `FrameSpec.hops`.
    start : int
        First frame of the piece in its clip.
    overlap : int
        Number of rows after those of the frames.
    """

    spec: Float32[np.ndarray, "T F"]
    start: int
    overlap: int = 0

    @property
    def frames(self) -> int:
        """Return the number of real frames in the window."""
        return len(self.spec) - self.overlap


def cut(blocks: Iterable[Float32[np.ndarray, "_ F"]], width: int, offset: int = 0) -> Iterator[Window]:
    """Yield windows of ``width`` frames from consecutive blocks, from frame ``offset``; the last one may be shorter.

    At most one window and one block are in memory. Nothing is yielded when there are no frames after ``offset``.
    """
    cutter = WindowCutter(width, offset)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.rest()


class WindowCutter:
    """Cuts a spectrogram that comes in blocks into windows of ``width`` frames, from frame ``offset``.

    With ``overlap``, a window has that many rows of the next one as well.

    Attributes
    ----------
    start : int
        First frame of the next window.
    """

    def __init__(self, width: int, offset: int = 0, overlap: int = 0) -> None:
        self.width, self.start, self.overlap = width, offset, overlap
        self._held: list[np.ndarray] = []
        self._count, self._skip = 0, offset

    def push(self, block: Float32[np.ndarray, "_ F"]) -> Iterator[Window]:
        """Yield the windows that the next block completes."""
        rest = block[self._skip :]
        self._skip -= len(block) - len(rest)
        self._held.append(rest)
        self._count += len(rest)
        while self._count >= self.width + self.overlap:
            spec = np.concatenate(self._held)
            yield Window(spec[: self.width + self.overlap], self.start, self.overlap)
            self._held, self._count = [spec[self.width :]], self._count - self.width
            self.start += self.width

    def rest(self) -> Iterator[Window]:
        """Yield the last window, which is shorter, if there are frames left."""
        if self._count > self.overlap:
            yield Window(np.concatenate(self._held), self.start, self.overlap)
            self.start += self.width


def cut_at_offsets(
    blocks: Iterable[Float32[np.ndarray, "_ F"]], width: int, offsets: Sequence[int], overlap: int = 0
) -> Iterator[tuple[list[Window], int]]:
    """Yield windows at several offsets as soon as they are complete, and the first frame that later windows hold.

    Frames before that one are final: no later window has any of them.
    """
    cutters = [WindowCutter(width, offset, overlap) for offset in offsets]
    for block in blocks:
        found = [window for cutter in cutters for window in cutter.push(block)]
        if found:
            yield found, min(cutter.start for cutter in cutters)
    if found := [window for cutter in cutters for window in cutter.rest()]:
        yield found, max(cutter.start for cutter in cutters)


def spectrograms(
    windows: Sequence[Window], grid: Grid, statistics: Statistics, device: torch.device, gpu_frontend: Frontend | None
) -> Float32[Tensor, "B F T"]:
    """Return normalised spectrograms of windows on a device, 0 after the end of a clip.

    Parameters
    ----------
    gpu_frontend : Frontend, optional
        The front end on that device, for windows of samples.
    """
    if gpu_frontend is None:
        spec = np.zeros((len(windows), grid.frames, grid.n_mels), dtype=np.float32)
        for row, window in zip(spec, windows, strict=True):
            row[: window.frames] = statistics.normalise_frames(window.spec)
        return torch.from_numpy(spec).to(device).transpose(1, 2)
    size = max(1, GPU_FRAMES // grid.frames)
    parts = [windows[at : at + size] for at in range(0, len(windows), size)]
    return torch.cat([_on_gpu(part, grid.frames, statistics, device, gpu_frontend) for part in parts])


def _on_gpu(
    windows: Sequence[Window], width: int, statistics: Statistics, device: torch.device, frontend: Frontend
) -> Float32[Tensor, "B F T"]:
    firsts = np.cumsum([0, *(len(window.spec) for window in windows[:-1])])
    real = np.arange(width) < np.array([window.frames for window in windows])[:, None]
    rows = np.where(real, firsts[:, None] + np.arange(width), 0)
    samples = to_device(np.concatenate([window.spec for window in windows]).ravel(), device)
    found = frontend.spectrograms_from_segments(samples, to_device(rows, device))
    mask = to_device(real, device)
    return torch.where(mask[:, None], statistics.normalise(found, mask), 0.0)


def column_frames(grid: Grid, frames: int) -> Float32[np.ndarray, " t"]:
    """Return the real frames of each time column of a window with ``frames`` frames: the weights of a mean over
    time.
    """
    columns = grid.real_columns(frames)
    ends = np.minimum((np.arange(columns) + 1) * grid.patch_size[1], max(frames, 1))
    return np.diff(ends, prepend=0).astype(np.float32)


def shifts(hop: float | None, step: float, width: int) -> list[int]:
    """Return the first frames of the passes that together give one time step every ``hop`` seconds; None: one pass.

    Parameters
    ----------
    step : float
        Seconds from one frame to the next.
    width : int
        Frames of a patch.

    Raises
    ------
    ConfigError
        When the hop does not divide the duration of a patch.
    """
    if hop is None:
        return [0]
    frames = hop / step
    if not np.isfinite(hop) or abs(frames - round(frames)) > 1e-6 or round(frames) < 1 or width % round(frames):
        fitting = ", ".join(f"{n * step:g}" for n in range(1, width + 1) if width % n == 0)
        raise ConfigError(
            f"hop must divide the duration of a patch, {width * step:g} s: use one of {fitting}; got {hop:g}"
        )
    return list(range(0, width, round(frames)))
