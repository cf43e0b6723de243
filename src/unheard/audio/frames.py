"""Frames of a front end: where they are in a signal of any length, and buffers to transform them quickly on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import AudioError

BLOCK_FRAMES = 512
"""Frames transformed at once on a CPU: few enough for the cache, enough to amortise the cost of calls (our choice,
measured).
"""

Band = tuple[slice, slice, NDArray[np.float32]]
"""Bins, bands and the weights between them, (bins, bands)."""


@dataclass(frozen=True)
class FrameSpec:
    """Position and size of frames."""

    sample_rate: int
    """Hz."""
    hop_size: int
    """Samples from one frame to the next."""
    frame_size: int
    """Samples of one frame."""
    n_fft: int
    """Length of the Fourier transform; frames are padded with zeros to it."""
    pad: int = 0
    """Samples reflected at both ends."""
    emphasis: float = 0.0
    """Pre-emphasis of the waveform; with pre-emphasis, a waveform gives one sample less."""

    @property
    def lookahead(self) -> int:
        """Return the number of samples that the emphasis looks ahead."""
        return int(self.emphasis != 0)

    @property
    def min_samples(self) -> int:
        """Return the length to which shorter waveforms are padded with zeros."""
        return self.lookahead + (self.pad + 1 if self.pad else self.frame_size)

    @property
    def row(self) -> int:
        """Return the samples of one frame, rounded up to whole hops."""
        return -(-self.frame_size // self.hop_size) * self.hop_size

    def emphasised(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " s"]:
        """Return a waveform with emphasis."""
        return wav[1:] - np.float32(self.emphasis) * wav[:-1] if self.lookahead else wav

    def left(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " p"]:
        """Return the reflection at the start of a waveform."""
        return wav[self.pad : 0 : -1] if self.pad else wav[:0]

    def right(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " p"]:
        """Return the reflection at the end of a waveform."""
        return wav[-2 : -self.pad - 2 : -1] if self.pad else wav[:0]

    def padded(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " P"]:
        """Return a waveform with emphasis and reflections; a shorter one than `min_samples` is filled with zeros."""
        if len(wav) < self.min_samples:
            wav = np.pad(wav, (0, self.min_samples - len(wav)))
        wav = self.emphasised(wav)
        return np.concatenate([self.left(wav), wav, self.right(wav)]) if self.pad else wav

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of ``num_samples`` samples."""
        window = 0 if self.pad else self.frame_size
        return 1 + max(0, num_samples - self.lookahead - window) // self.hop_size

    def padded_pieces(
        self, blocks: Iterable[Float32[np.ndarray, " s"]]
    ) -> Iterator[tuple[Float32[np.ndarray, " P"], int]]:
        """Yield the result of `padded` for the concatenated blocks in overlapping pieces, each with its number of
        frames; the first frame of a piece starts at its first sample. Constant memory.
        """
        rest = (np.asarray(block, np.float32) for block in blocks)
        begin, enough = np.empty(0, np.float32), 2 * self.frame_size + self.lookahead
        for block in rest:
            begin = np.concatenate([begin, block])
            if len(begin) >= enough:
                break
        if len(begin) < enough:
            yield self.padded(begin), self.num_frames(require_samples(len(begin)))
            return
        held = self.emphasised(begin)
        held, last = np.concatenate([self.left(held), held]), begin[len(begin) - self.lookahead :]
        total, given = len(begin), 0
        for block in chain([begin[:0]], rest):
            joined, total = np.concatenate([last, block]), total + len(block)
            held, last = np.concatenate([held, self.emphasised(joined)]), joined[len(joined) - self.lookahead :]
            ready = (
                len(held) - 2 * self.frame_size
            ) // self.hop_size + 1  # the samples held back are enough for the reflection at the end
            if ready > 0:
                yield held, ready
                held, given = held[ready * self.hop_size :].copy(), given + ready
        if (left := self.num_frames(total) - given) > 0:
            yield np.concatenate([held, self.right(held)]), left

    @property
    def overlap(self) -> int:
        """Return the number of hops that a frame has after its first one."""
        return self.row // self.hop_size - 1

    def hops(self, blocks: Iterable[Float32[np.ndarray, " s"]]) -> Iterator[Float32[np.ndarray, "h H"]]:
        """Yield the result of `padded` for the concatenated blocks, one row a hop, in constant memory.

        Frame n is in the rows n to n + `overlap`. There are `overlap` rows more than frames.
        """
        rest = np.empty(0, np.float32)
        for padded, frames in self.padded_pieces(blocks):
            size = frames * self.hop_size
            yield np.pad(padded[:size], (0, max(0, size - len(padded)))).reshape(frames, self.hop_size)
            rest = padded[size:]
        size = self.overlap * self.hop_size
        yield np.pad(rest[:size], (0, max(0, size - len(rest)))).reshape(self.overlap, self.hop_size)


def require_samples(num_samples: int) -> int:
    """Return a number of samples.

    Raises
    ------
    AudioError
        When it is 0.
    """
    if num_samples < 1:
        raise AudioError("a waveform without samples has no spectrogram; leave it out")
    return num_samples


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
