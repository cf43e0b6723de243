"""Order of the windows of an epoch, and which clip has which windows, in memory that does not grow with the corpus.

The order is a keyed bijection of 0 .. size - 1: a Feistel network on the bits of a position. Results outside
of the range are mapped again until they lie inside (cycle walking; Black and Rogaway 2002). With high and low bits,

    (high, low) -> (high ^ F_r(low), low)   and   (high, low ^ F_r(high))   in turn,

each round is its own inverse, whatever F is. Here F is SplitMix64 with a key of the seed, the epoch and the round.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt64

Indices = Int64[np.ndarray, " B"]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = 12
"""Rounds of the network (our choice): a chi-square test accepts the orders of 2 to 33 windows."""
BLOCK = 64
"""Clips whose windows are counted together."""
CHUNK = 2**20
"""Clips that are read at once when windows are counted; a multiple of `BLOCK`."""


def epoch_order(positions: Indices, size: int, seed: int, epoch: int) -> Indices:
    """Return the slots at some positions of an epoch: each slot is at one position.

    Parameters
    ----------
    positions : Int64[ndarray, "B"]
        In 0 .. size - 1.
    size : int
        Slots of an epoch.
    seed, epoch : int
    """
    bits = max(2, (size - 1).bit_length())
    low = bits // 2
    base = splitmix64(np.array([seed, epoch], np.int64).view(np.uint64) + GOLDEN_GAMMA)
    keys = splitmix64(base[:1] + (base[1:] + np.arange(1, ROUNDS + 1, dtype=np.uint64)) * GOLDEN_GAMMA)
    values, outside = positions.astype(np.uint64), np.ones(len(positions), bool)
    while outside.any():
        values[outside] = _network(values[outside], keys, bits - low, low)
        outside &= values >= np.uint64(size)
    return values.astype(np.int64)


def block_order(
    positions: Indices, bounds: Int64[np.ndarray, " shards"], together: int, seed: int, epoch: int
) -> Indices:
    """Return the slots at some positions of an epoch that reads a few shards at a time.

    The shards are in the order `epoch_order` of the epoch. ``together`` shards that follow each other are a block, and
    the slots of a block are in the order `epoch_order` of that block. So each slot is at one position, and at any
    moment the windows come from one block.

    Parameters
    ----------
    positions : Int64[ndarray, "B"]
    bounds : Int64[ndarray, "shards"]
        First slot of each shard, and the number of all slots.
    together : int
        Shards of a block.
    seed, epoch : int
    """
    sizes = np.diff(bounds)
    shards = epoch_order(np.arange(len(sizes)), len(sizes), seed, epoch)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[shards])])
    edges = np.append(begins[:-1:together], begins[-1])
    blocks = np.searchsorted(edges, positions, side="right") - 1
    slots = np.empty_like(positions)
    for block in np.unique(blocks).tolist():
        here, first, size = blocks == block, int(edges[block]), int(edges[block + 1] - edges[block])
        inside = first + epoch_order(positions[here] - first, size, seed ^ (block + 1) << 32, epoch)
        at = np.searchsorted(begins, inside, side="right") - 1
        slots[here] = bounds[shards[at]] + inside - begins[at]
    return slots


def _network(values: UInt64[np.ndarray, " n"], keys: UInt64[np.ndarray, " r"], high: int, low: int) -> np.ndarray:
    """Apply all rounds to values of ``high + low`` bits."""
    shift, least, most = np.uint64(low), np.uint64(2**low - 1), np.uint64(2**high - 1)
    upper, lower = values >> shift, values & least
    for number, key in enumerate(keys[:, None]):
        if number % 2:
            lower ^= splitmix64(key + upper * GOLDEN_GAMMA) & least
        else:
            upper ^= splitmix64(key + lower * GOLDEN_GAMMA) & most
    return np.asarray((upper << shift) | lower)


def splitmix64(state: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Apply the output function of SplitMix64 (Steele, Lea and Flood 2014) to counters."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


class Slots:
    """The slots of an epoch: as many of each clip as windows fit its length, rounded up, or one.

    The slots are counted for blocks of clips; those of a clip are counted again when its block is used.

    Parameters
    ----------
    frames : Int64[ndarray, "n"]
        Frames of each clip; may be mapped from a file.
    width : int, optional
        Frames of a window. None: one slot for each clip.

    Attributes
    ----------
    size : int
        Number of slots.
    shortest : int
        Frames of the shortest clip, 0 if there is none.
    """

    def __init__(self, frames: Int64[np.ndarray, " n"], width: int | None) -> None:
        self._frames, self._width = frames, width
        totals, self.shortest = [np.zeros(1, np.int64)], 0
        for first in range(0, len(frames), CHUNK):
            part = np.asarray(frames[first : first + CHUNK], np.int64)
            least = int(part.min())
            self.shortest = least if not first else min(self.shortest, least)
            totals.append(np.add.reduceat(window_counts(part, width), np.arange(0, len(part), BLOCK)))
        self._ends = np.cumsum(np.concatenate(totals))
        self.size = int(self._ends[-1])

    def clips(self, slots: Indices) -> Indices:
        """Return the clip of each slot."""
        if self._width is None:
            return slots
        blocks = np.searchsorted(self._ends, slots, side="right") - 1
        clips = blocks[:, None] * BLOCK + np.arange(BLOCK)  # the last block may be shorter
        inside = clips < len(self._frames)
        clips = np.minimum(clips, len(self._frames) - 1)
        ends = np.cumsum(window_counts(self._frames[clips], self._width) * inside, axis=1)
        chosen = (ends <= (slots - self._ends[blocks])[:, None]).sum(axis=1)
        return np.asarray(clips[np.arange(len(slots)), chosen])

    def before(self, clips: Indices) -> Indices:
        """Return the number of slots of the clips before each of ``clips``."""
        blocks = clips // BLOCK
        rows = blocks[:, None] * BLOCK + np.arange(BLOCK)
        lengths = self._frames[np.minimum(rows, len(self._frames) - 1)]
        counts = window_counts(lengths, self._width) * (rows < clips[:, None])
        return np.asarray(self._ends[blocks] + counts.sum(axis=1))


def window_counts(lengths: Int64[np.ndarray, "*shape"], width: int | None) -> Int64[np.ndarray, "*shape"]:
    """Return the slots of clips of some lengths: as many as windows fit, rounded up, or one if ``width`` is None."""
    return np.ones_like(lengths) if width is None else -(-lengths // width)
