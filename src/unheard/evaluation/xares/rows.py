"""Rows of a task as the head gets them: batches of pooled vectors, or of padded frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unheard.evaluation.xares.embeddings import EmbeddedSplit, frames_of
from unheard.evaluation.xares.targets import class_indices, event_targets, multi_hot
from unheard.evaluation.xares.tasks import XaresTask

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Rows:
    """Vectors with their targets.

    Parameters
    ----------
    x : tuple of Float[Tensor, "t D"]
        Frames of each clip of an event task, or one matrix of pooled vectors.
    y : tuple of Tensor
        Targets of the frames of each clip, or of all clips in one tensor.
    clips : ndarray of str, (n,)
        Key of the clip of each row.
    frames : bool
        Whether rows are sequences.
    """

    x: tuple[Float[Tensor, "_ D"], ...]
    y: tuple[Shaped[Tensor, "*_"], ...]
    clips: NDArray[Any]
    frames: bool

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def width(self) -> int:
        """Number of values of a vector."""
        return self.x[0].shape[-1]

    def batch(self, rows: Sequence[int]) -> Pair:
        """Return some rows with their targets.

        Frames are padded with zeros to the longest, targets are cut or padded to the same length; the head sees the
        padding.
        """
        if not self.frames:
            chosen = torch.as_tensor(rows)
            return self.x[0][chosen], self.y[0][chosen]
        x = pad_sequence([self.x[row] for row in rows], batch_first=True)
        y = x.new_zeros(len(rows), x.shape[1], self.y[0].shape[1])
        for target, row in zip(y, rows, strict=True):
            known = self.y[row][: x.shape[1]]
            target[: len(known)] = known
        return x, y

    def batches(self, size: int) -> Iterator[Pair]:
        """Yield all rows in order."""
        for first in range(0, len(self), size):
            yield self.batch(range(first, min(first + size, len(self))))

    def chosen(self, rows: NDArray[Any]) -> Rows:
        """Return some rows."""
        if self.frames:
            return Rows(tuple(self.x[row] for row in rows), tuple(self.y[row] for row in rows), self.clips[rows], True)
        return Rows((self.x[0][rows],), (self.y[0][rows],), self.clips[rows], False)


def rows_of(task: XaresTask, split: EmbeddedSplit, hop: float) -> Rows:
    """Return the rows of a split.

    Parameters
    ----------
    hop : float
        Seconds between frames, for event tasks.

    Raises
    ------
    DataError
        When a label is missing or unknown.
    """
    clips = np.array(split.clips)
    if task.kind == "frames":
        x = tuple(torch.from_numpy(frames) for frames in frames_of(split, task))
        return Rows(x, tuple(event_targets(task, split.clips, split.records, hop)), clips, True)
    targets = multi_hot if task.kind == "multi" else class_indices
    return Rows((torch.from_numpy(split.vectors),), (targets(task, split.clips, split.records),), clips, False)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several splits, one after the other."""
    if len(parts) == 1:
        return parts[0]
    clips = np.concatenate([part.clips for part in parts])
    if parts[0].frames:
        return Rows(tuple(x for part in parts for x in part.x), tuple(y for part in parts for y in part.y), clips, True)
    return Rows((torch.cat([part.x[0] for part in parts]),), (torch.cat([part.y[0] for part in parts]),), clips, False)
