"""Logits of whole validation clips during fine-tuning, with the front end and the device of training.

packed waves -> windows of the encoder's length -> pooled vectors -> mean over the windows of a clip -> classifier

Every process computes some of the batches. Batches depend only on the lengths of the clips, so the logits do not depend
on the number of processes. They are equal to those of prediction, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.data.class_sets import Index
from unheard.data.prefetch import Prefetcher
from unheard.data.store import WaveStore
from unheard.data.windows.crops import WindowSegments
from unheard.devices import to_device
from unheard.errors import DataError
from unheard.finetuning.network import Network
from unheard.training.engine import Engine

WINDOWS = 32
"""Number of windows encoded at a time, for every number of processes (our choice)."""


@dataclass(frozen=True)
class Windows:
    """Windows of a group of clips, or a part of them.

    Parameters
    ----------
    spec : Float[Tensor, "B F T"]
        Normalised spectrograms; 0 after the end of each window.
    frames : Int[Tensor, "B"]
        Number of valid frames of each window, on the CPU.
    share : Float[Tensor, "k W"], optional
        Weight of every window of the group in the mean of each of its k clips; only with the last windows of a group.
    """

    spec: Float[Tensor, "B F T"]
    frames: Int[Tensor, " B"]
    share: Float[Tensor, "k W"] | None


def groups_of(frames: Index, width: int, size: int = WINDOWS) -> list[Index]:
    """Divide clips into groups of similar length with at most ``size`` windows; a longer clip is its own group.

    Parameters
    ----------
    frames : Int[ndarray, "n"]
        Number of frames of each clip.
    width : int
        Number of frames of a window.

    Returns
    -------
    list of Int[ndarray, "k"]
        Indices into ``frames``; every clip is in exactly one group.
    """
    order = np.argsort(frames, kind="stable")
    counts = _windows(frames[order], width).tolist()
    ends, total = [], 0
    for index, count in enumerate(counts):
        if total and total + count > size:
            ends.append(index)
            total = 0
        total += count
    return [group for group in np.split(order, ends) if len(group)]


class WindowLoader(Prefetcher[Windows]):
    """Iterate over the windows of groups of clips; a context manager, as every `Prefetcher`.

    Parameters
    ----------
    store : WaveStore
    groups : list of Int[ndarray, "k"]
        Numbers of clips of the store.
    statistics : Statistics
    width : int
        Frames of a window.
    device : torch.device
    """

    def __init__(
        self, store: WaveStore, groups: list[Index], statistics: Statistics, width: int, device: torch.device
    ) -> None:
        self.store, self.statistics, self.width = store, statistics, width
        counts = [int(_windows(store.frames[group], width).sum()) for group in groups]
        self._parts = [
            (group, slice(first, first + WINDOWS), first + WINDOWS >= count)
            for group, count in zip(groups, counts, strict=True)
            for first in range(0, count, WINDOWS)
        ]
        super().__init__(range(len(self._parts)), device)

    def batch(self, step: int) -> Windows:
        """Return the windows of a group, or a part of them."""
        group, part, last = self._parts[step]
        owners, starts, lengths = _cut(self.store.frames[group], self.width)
        part_owners, lengths_here = owners[part], lengths[part]
        count, wide = len(part_owners), int(lengths_here.max())
        zero = np.zeros(count, np.int64)
        pieces = WindowSegments(np.arange(count), group[part_owners], starts[part], zero, lengths_here)
        frames = torch.from_numpy(lengths_here)
        inside = torch.arange(wide, device=self.device) < to_device(lengths_here, self.device)[:, None]
        spec = self.statistics.normalise(self.store.windows(pieces, count, wide, self.device), inside)
        share = to_device(_share(owners, lengths, len(group)), self.device) if last else None
        return Windows(spec * inside[:, None], frames, share)


class Validation:
    """Compute the logits of the validation clips, distributed over all processes.

    Parameters
    ----------
    store : WaveStore
    clips : Int[ndarray, "n"]
        Numbers of clips of the store.
    statistics : Statistics
    engine : Engine
    width : int
        Frames of the encoder's window.
    """

    def __init__(self, store: WaveStore, clips: Index, statistics: Statistics, engine: Engine, width: int) -> None:
        self.store, self.clips, self.statistics, self.engine, self.width = store, clips, statistics, engine, width
        groups = groups_of(store.frames[clips], width)
        self._shares = [groups[rank :: engine.processes] for rank in range(engine.processes)]

    def logits(self, network: Network) -> Float32[np.ndarray, "n C"]:
        """Return the logits of whole clips in their order. All processes must call this, and all get all logits.

        Raises
        ------
        DataError
            When logits are not finite; names the first file. Raised in every process.
        """
        engine, classes = self.engine, len(network.classifier.config.labels)
        own = torch.zeros(max(_count(share) for share in self._shares), classes, device=engine.device)
        done = 0
        with torch.no_grad():
            for group_logits in self._own(network):
                own[done : done + len(group_logits)] = group_logits
                done += len(group_logits)
        gathered = engine.gather(own).reshape(engine.processes, len(own), classes).cpu().numpy()
        logits = np.empty((len(self.clips), classes), np.float32)
        for values, share in zip(gathered, self._shares, strict=True):
            places = np.concatenate([np.empty(0, np.int64), *share])
            logits[places] = values[: len(places)]
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(bad):
            file = self.store.names[int(self.clips[bad[0]])]
            raise DataError(
                f"the logits of {len(bad)} of {len(logits)} validation clips are not finite, the first of {file}; try a"
                " lower training.learning_rate, or compare with training.precision=float32"
            )
        return logits

    def _own(self, network: Network) -> Iterator[Float[Tensor, "k C"]]:
        """Yield the logits of the groups of this process, in order."""
        groups = [self.clips[group] for group in self._shares[self.engine.rank]]
        pooled: list[Tensor] = []
        with WindowLoader(self.store, groups, self.statistics, self.width, self.engine.device) as loader:
            for windows in loader:
                pooled.append(network.pooled(windows.spec, windows.frames))
                if windows.share is not None:
                    yield network.classifier(windows.share @ torch.cat(pooled))
                    pooled = []


def _count(groups: list[Index]) -> int:
    """Return the number of clips in groups."""
    return sum(len(group) for group in groups)


def _windows(frames: Index, width: int) -> Index:
    """Return the number of windows of each clip."""
    return np.asarray(np.maximum(1, -(-frames // width)))


def _cut(frames: Index, width: int) -> tuple[Index, Index, Index]:
    """Return clip index, first frame and number of frames of the consecutive windows of clips."""
    counts = _windows(frames, width)
    owners = np.repeat(np.arange(len(frames)), counts)
    starts = (np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)) * width
    return owners, starts, np.minimum(frames[owners] - starts, width)


def _share(owners: Index, lengths: Index, clips: int) -> Float32[np.ndarray, "k W"]:
    """Return the weight of every window in the mean of each clip: its fraction of the frames."""
    weights = np.zeros((clips, len(owners)), np.float32)
    weights[owners, np.arange(len(owners))] = lengths / np.bincount(owners, lengths, minlength=clips)[owners]
    return weights
