"""Slots of the clips of each group, such as a domain, without a list of the clips of each group."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, Integer

from unheard.data.windows.order import BLOCK, CHUNK, Indices, window_counts


class GroupSlots:
    """For each group of clips, the slots of these clips in an epoch, as `Slots` of these clips alone.

    The slots of every group are counted for blocks of clips. A clip is found when its block is used. For up to 256
    groups this needs one byte a clip for its group, and at most one for the counts.

    Parameters
    ----------
    frames : Int64[ndarray, "n"]
        Frames of each clip; may be mapped from a file.
    width : int, optional
        Frames of a window. None: one slot for each clip.
    groups : Integer[ndarray, "n"] or Bool[ndarray, "n"]
        Number of the group of each clip, from 0.

    Attributes
    ----------
    sizes : Int64[ndarray, "groups"]
        Number of slots of each group.
    """

    def __init__(
        self,
        frames: Int64[np.ndarray, " n"],
        width: int | None,
        groups: Integer[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    ) -> None:
        count = int(groups.max()) + 1
        self._frames, self._width, self._groups = frames, width, groups.astype(np.min_scalar_type(count - 1))
        self._block = max(BLOCK, 8 * count)  # 8 bytes a block and group are at most one a clip
        blocks = -(-len(frames) // self._block)
        self._ends = np.zeros((count, blocks + 1), np.int64)
        together = max(1, CHUNK // self._block)
        for first in range(0, blocks, together):
            part = slice(first * self._block, (first + together) * self._block)
            counts = window_counts(np.asarray(frames[part], np.int64), width)
            cells = np.arange(len(counts)) // self._block + self._groups[part].astype(np.int64) * together
            totals = np.bincount(cells, counts, count * together).reshape(count, together)
            self._ends[:, first + 1 : first + together + 1] = totals[:, : blocks - first]
        np.cumsum(self._ends, axis=1, out=self._ends)
        self.sizes = self._ends[:, -1].copy()

    def clips(self, group: int, slots: Indices) -> Indices:
        """Return the clip of each slot of a group."""
        ends = self._ends[group]
        blocks = np.searchsorted(ends, slots, side="right") - 1
        rows = blocks[:, None] * self._block + np.arange(self._block)  # the last block may be shorter
        inside = rows < len(self._groups)
        rows = np.minimum(rows, len(self._groups) - 1)
        inside &= self._groups[rows] == group
        counts = np.zeros(rows.shape, np.int64)
        counts[inside] = window_counts(self._frames[rows[inside]], self._width)
        chosen = (np.cumsum(counts, axis=1) <= (slots - ends[blocks])[:, None]).sum(axis=1)
        return np.asarray(rows[np.arange(len(slots)), chosen])
