"""Batches for training, prepared by one background thread while the last ones are worked on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np
import torch

from unheard.audio.frontend import Statistics
from unheard.data.crops import CropSampler
from unheard.data.store import Store, to_device
from unheard.errors import ConfigError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch

AHEAD = 3
"""Batches that wait ready at most (our choice)."""


class Loader:
    """Iterates over the batches of ``steps``, each a function of the sampler's seed and the step alone.

    Use it as a context manager: leaving it stops the thread, wherever the iteration stands.

    Parameters
    ----------
    store : Store
    sampler : CropSampler
    grid : Grid
        Its frames are the sampler's width.
    statistics : Statistics
        What spectrograms are normalised by.
    batch_size : int
        Windows of one step over all processes.
    device : torch.device
        Where batches go.
    share : tuple of int
        Rank of this process and number of processes; each takes its slice of a batch.
    steps : range
        Which steps to prepare, in order.
    adds : sequence of callable
        What is done to each batch, in order: labels, captions, a teacher's targets.

    Raises
    ------
    ConfigError
        When the batch cannot be shared out evenly, or the window does not fit the grid.

    Attributes
    ----------
    wait_seconds : float
        How long the consumer has waited for batches.
    """

    def __init__(
        self,
        store: Store,
        sampler: CropSampler,
        grid: Grid,
        statistics: Statistics,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        share: tuple[int, int] = (0, 1),
        steps: range,
        adds: Sequence[Callable[[Batch], Batch]] = (),
    ) -> None:
        rank, processes = share
        if batch_size < 1 or batch_size % processes:
            raise ConfigError(f"a batch of {batch_size} does not split over {processes} processes; set training.batch_size to a multiple")
        if not 0 <= sampler.width - grid.frames < grid.patch_size[1] or store.frontend.n_mels != grid.n_mels:
            raise ConfigError(
                f"windows of {store.frontend.n_mels} bands x {sampler.width} frames do not fit a grid of {grid.n_mels} x {grid.frames}; "
                "set model.frames to a multiple of the patch width"
            )
        self.store, self.sampler, self.grid, self.statistics = store, sampler, grid, statistics
        self.batch_size, self.device, self.steps, self.adds = batch_size, torch.device(device), steps, adds
        self._share = slice(rank * batch_size // processes, (rank + 1) * batch_size // processes)
        self.wait_seconds = 0.0
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._peeked: Batch | None = None

    @property
    def epoch_size(self) -> int:
        """Windows of one epoch."""
        return self.sampler.size

    def __enter__(self) -> Loader:
        """Start preparing."""
        self._thread = threading.Thread(target=self._prepare, name="batches", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[Batch]:
        """The batches in the order of the steps; what went wrong in the thread is raised here."""
        for _ in self.steps:
            batch, self._peeked = self.peek(), None
            yield batch

    def peek(self) -> Batch:
        """The batch that comes next; it stays the next one."""
        if self._thread is None:
            raise ConfigError("a loader prepares batches only inside its context; write: with loader: ...")
        if self._peeked is None:
            begin = time.perf_counter()
            item = self._ready.get()
            self.wait_seconds += time.perf_counter() - begin
            if isinstance(item, Exception):
                raise item
            self._peeked = item
        return self._peeked

    def batch(self, step: int) -> Batch:
        """The share of this process in the batch of one step."""
        epochs, positions = (values[self._share] for values in self.sampler.positions(step, self.batch_size))
        pieces, count = self.sampler.pieces(epochs, positions), len(positions)
        draws = to_device(self.sampler.jitter(epochs, positions), self.device)
        raw = self.store.windows(pieces, count, self.sampler.width, self.device, draws)
        spec = self.statistics.normalise(raw).contiguous()
        real = pieces.real_frames(count)
        if not pieces.full(count, self.sampler.width):
            spec *= to_device(pieces.mask(count, self.sampler.width), self.device)[:, None, :]
        frames = to_device(real, self.device)
        config = self.store.frontend
        starts = pieces.starts[:count] * (config.hop_size / config.sample_rate)
        batch = Batch(
            spec=spec[..., : self.grid.frames],
            valid=self.grid.valid(frames),
            clips=to_device(pieces.ids[:count], self.device),
            frames=frames,
            start_seconds=to_device(starts.astype(np.float32), self.device),
            noise=to_device(self.sampler.noise(epochs, positions, self.grid.num_patches), self.device),
            wav=self.store.waves(pieces, count, self.grid.frames, self.device),
        )
        for add in self.adds:
            batch = add(batch)
        return batch

    def _prepare(self) -> None:
        """Run by the thread: put batches, or what went wrong, into the queue."""
        try:
            for step in self.steps:
                if not self._put(self.batch(step)):
                    return
        except Exception as error:
            self._put(error)

    def _put(self, item: Batch | Exception) -> bool:
        """Wait for room; False when the loader was stopped meanwhile."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
