"""Sampling of windows from clips, without state: the seed and the step determine every window.

An epoch has a number of slots, each of which belongs to a clip. The random numbers of a position are a function of
(seed, epoch, position) alone. Any number of processes that share the positions of a batch read the same crops as one
process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer, UInt64
from numpy.typing import ArrayLike

from unheard.data.windows.groups import GroupSlots
from unheard.data.windows.order import GOLDEN_GAMMA, Indices, Slots, block_order, epoch_order, splitmix64
from unheard.errors import ConfigError, DataError

SAMPLING = 2
"""Version of the sampling: with another one, the same seed gives other windows."""


@dataclass(frozen=True)
class WindowSegments:
    """Segments that fill a batch of windows.

    Segment k copies ``lengths[k]`` frames of clip ``ids[k]`` from frame ``starts[k]`` to frame ``offsets[k]`` of window
    ``windows[k]``. The first segment of each window is the sampled crop; these come first, in order.
    """

    windows: Indices
    ids: Indices
    starts: Indices
    offsets: Indices
    lengths: Indices

    @classmethod
    def single(cls, ids: Indices, starts: Indices, frames: Int64[np.ndarray, " n"], width: int) -> WindowSegments:
        """Return one segment a window: ``width`` frames from frame ``starts`` of clips ``ids``.

        Clips of fewer than ``width`` remaining ``frames`` give shorter segments.
        """
        ids, starts = np.asarray(ids, np.int64), np.asarray(starts, np.int64)
        rows = np.arange(len(ids), dtype=np.int64)
        return cls(rows, ids, starts, np.zeros_like(rows), np.minimum(frames[ids] - starts, width))

    def columns(self) -> list[list[int]]:
        """Return windows, clips, starts, offsets and lengths as lists."""
        return [column.tolist() for column in (self.windows, self.ids, self.starts, self.offsets, self.lengths)]

    def full(self, batch: int, width: int) -> bool:
        """Return whether every window is one segment, without padding."""
        return len(self.ids) == batch and bool((self.lengths == width).all())

    def real_frames(self, batch: int) -> Indices:
        """Return the frames of each window up to the end of its last segment, (B,)."""
        ends = np.zeros(batch, np.int64)
        np.maximum.at(ends, self.windows, self.offsets + self.lengths)
        return ends

    def mask(self, batch: int, width: int) -> Bool[np.ndarray, "B T"]:
        """Return True on frames that a segment covers."""
        edges = np.zeros((batch, width + 1), np.int8)
        np.add.at(edges, (self.windows, self.offsets), 1)
        np.add.at(edges, (self.windows, self.offsets + self.lengths), -1)
        covered: Bool[np.ndarray, "B T"] = np.cumsum(edges[:, :-1], axis=1, dtype=np.int8) > 0
        return covered


class CropSampler:
    """Samples windows of ``width`` frames.

    Parameters
    ----------
    frames : Int64[ndarray, "n"]
        Frames of each clip.
    width : int
        Frames of a window.
    seed : int
    crops : {"length", "one"}
        Slots of a clip in one epoch: as many as windows fit its length, rounded up, so that an epoch is one pass over
        the audio; or one (MSM-MAE reference).
    domains : Integer[ndarray, "n"], optional
        Number of the domain of each clip, from 0; each number up to the largest occurs. If given, positions cycle
        through the domains, so that each gets the same number of windows.
    short : {"pad", "join"}
        What follows a clip shorter than the window: padding, or further short clips.
    align : int
        Joined clips begin at multiples of this, the frames of one patch.

    Raises
    ------
    DataError
        When there are no clips.
    """

    def __init__(
        self,
        frames: ArrayLike,
        width: int,
        seed: int,
        crops: Literal["length", "one"] = "length",
        domains: Integer[np.ndarray, " n"] | None = None,
        short: Literal["pad", "join"] = "pad",
        align: int = 1,
    ) -> None:
        self.frames, self.width, self.seed, self.align = np.asanyarray(frames, np.int64), width, seed, align
        if width < 1 or align < 1 or crops not in ("length", "one") or short not in ("pad", "join"):
            raise ConfigError(
                f"windows need width >= 1, align >= 1, crops length|one, short pad|join; got {width}, {align}, {crops},"
                f" {short}"
            )
        windows = width if crops == "length" else None
        self._slots = Slots(self.frames, windows)
        if self._slots.shortest < 1:
            raise DataError("a corpus without frames has no windows; give at least one clip that can be read")
        self._joins = short == "join"
        self._short: GroupSlots | None = None  # the clips of group 1 are shorter than the window
        if self._joins and self._slots.shortest < width:
            self._short = GroupSlots(self.frames, None, self.frames < width)
        self._blocks: tuple[Indices, int] | None = None  # bounds of the shards, and how many are shuffled together
        self._by_domain = None if domains is None else GroupSlots(self.frames, windows, domains)

    def shuffle_blocks(self, first_clips: Indices, together: int) -> None:
        """Shuffle the windows of ``together`` shards at a time, instead of all windows.

        Parameters
        ----------
        first_clips : Int64[ndarray, "shards"]
            First clip of each shard, and the number of clips.
        together : int

        Raises
        ------
        ConfigError
            When windows are also drawn from other shards, to balance domains or to fill up short clips.
        """
        if self._by_domain is not None or self._joins:
            raise ConfigError(
                "data.shuffle=blocks reads a few shards at a time, which data.balance=domain and data.short_clips=join"
                " do not; leave these out, or set data.shuffle=windows"
            )
        self._blocks = self._slots.before(first_clips), together

    @property
    def in_blocks(self) -> bool:
        """Return whether windows are shuffled within a few shards at a time."""
        return self._blocks is not None

    def _order(self, positions: Indices, epoch: int) -> Indices:
        if self._blocks is None:
            return epoch_order(positions, self.size, self.seed, epoch)
        return block_order(positions, *self._blocks, self.seed, epoch)

    @property
    def size(self) -> int:
        """Return the number of windows of one epoch."""
        return self._slots.size

    def positions(self, step: int, batch_size: int) -> tuple[Indices, Indices]:
        """Return the epoch and the position of every window of a global batch.

        Batches run through epochs without gaps, so small corpora repeat.
        """
        windows = step * batch_size + np.arange(batch_size, dtype=np.int64)
        return windows // self.size, windows % self.size

    def draw(self, epochs: int | Indices, positions: Indices) -> tuple[Indices, Indices]:
        """Sample the clip and the first frame of the windows at ``positions`` of ``epochs``, both (B,).

        The first frame is uniform over all positions where the window fits, including the last one, which the MSM-MAE
        reference excludes. It is 0 in a clip shorter than the window.
        """
        epoch = np.broadcast_to(epochs, positions.shape)
        ids = np.empty_like(positions)
        if self._by_domain is None:
            for number in np.unique(epoch):
                here = epoch == number
                ids[here] = self._slots.clips(self._order(positions[here], int(number)))
        else:
            turn = positions % len(self._by_domain.sizes)
            slots = _randint(self._uniform(epoch, positions, 1), self._by_domain.sizes[turn])
            for number in np.unique(turn).tolist():
                ids[turn == number] = self._by_domain.clips(number, slots[turn == number])
        starts = _randint(self._uniform(epoch, positions, 2), np.maximum(self.frames[ids] - self.width, 0) + 1)
        return ids, starts

    def pieces(self, epochs: int | Indices, positions: Indices) -> WindowSegments:
        """Return the segments of `draw` and, with ``short="join"``, of the clips that fill up windows of short
        clips.
        """
        ids, starts = self.draw(epochs, positions)
        epoch = np.broadcast_to(epochs, positions.shape)
        windows, offsets = np.arange(len(ids)), np.zeros_like(ids)
        lengths = np.minimum(self.frames[ids], self.width)
        parts, turn = [(windows, ids, starts, offsets, lengths)], 3
        while self._short is not None:
            offsets = -(-(offsets + lengths) // self.align) * self.align
            open_ = offsets < self.width
            if not open_.any():
                break
            windows, offsets = windows[open_], offsets[open_]
            uniform = self._uniform(epoch[windows], positions[windows], turn)
            ids = self._short.clips(1, _randint(uniform, np.full(len(windows), self._short.sizes[1])))
            lengths = np.minimum(self.frames[ids], self.width - offsets)
            parts.append((windows, ids, np.zeros_like(ids), offsets, lengths))
            turn += 1
        return WindowSegments(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def noise(self, epochs: int | Indices, positions: Indices, count: int) -> Float32[np.ndarray, "B W"]:
        """Return ``count`` uniform numbers in [0, 1) for the masks of each window, a function of seed, epoch and
        position as well.
        """
        keys = self._keys(np.broadcast_to(epochs, positions.shape), positions, 0)
        bits = splitmix64(keys[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None, :] * GOLDEN_GAMMA)
        noise: Float32[np.ndarray, "B W"] = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return noise

    def jitter(self, epochs: int | Indices, positions: Indices) -> Float32[np.ndarray, "B 2"]:
        """Return two uniform numbers in [0, 1) for each window, for front ends that vary their bands."""
        epoch = np.broadcast_to(epochs, positions.shape)
        numbers = [self._uniform(epoch, positions, _JITTER + number).astype(np.float32) for number in range(2)]
        return np.minimum(np.stack(numbers, axis=1), np.float32(1 - 2.0**-24))

    def _uniform(self, epochs: Indices, positions: Indices, purpose: int) -> Float64[np.ndarray, " B"]:
        uniform: Float64[np.ndarray, " B"] = (self._keys(epochs, positions, purpose) >> np.uint64(11)) * 2.0**-53
        return uniform

    def _keys(self, epochs: Indices, positions: Indices, purpose: int) -> UInt64[np.ndarray, " B"]:
        """Return a hash of (seed, epoch, position, purpose)."""
        key = splitmix64(
            np.array([self.seed], np.int64).view(np.uint64) + np.array([purpose], np.uint64) * GOLDEN_GAMMA
        )
        for part in (epochs, positions):
            key = splitmix64(key + (part.astype(np.uint64) + np.uint64(1)) * GOLDEN_GAMMA)
        return key


_JITTER = 2**32  # a purpose that is larger than any number of joined clips


def _randint(uniform: Float64[np.ndarray, " B"], count: Indices) -> Indices:
    """Return integers in 0 .. count - 1."""
    return np.asarray(uniform * count, np.int64)
