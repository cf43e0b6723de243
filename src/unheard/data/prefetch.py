"""Batches that one background thread prepares in advance."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from unheard.errors import ConfigError
from unheard.read_ahead import Background

QUEUE_SIZE = 3
"""Largest number of waiting batches (our choice)."""


@dataclass(frozen=True)
class RankSlice:
    """The slice of every batch that one of several processes takes.

    Parameters
    ----------
    batch_size : int
        Windows or clips of one step over all processes.
    rank : int
        This process.
    processes : int

    Raises
    ------
    ConfigError
        When the batch size is not a multiple of the number of processes.
    """

    batch_size: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        """Check that the batch size is a multiple of the number of processes."""
        if self.batch_size < 1 or self.batch_size % self.processes:
            raise ConfigError(
                f"a batch of {self.batch_size} does not split over {self.processes} processes; set training.batch_size"
                " to a multiple"
            )

    @property
    def local_slice(self) -> slice:
        """Return the positions of this process in the batch."""
        size = self.batch_size // self.processes
        return slice(self.rank * size, (self.rank + 1) * size)


@dataclass(frozen=True)
class BatchPlan:
    """The batches that a loader prepares.

    Parameters
    ----------
    steps : range
        Steps, counted from 0.
    share : RankSlice
        Part of every batch that belongs to this process.
    device : torch.device
    mixtures : bool
        Whether each window comes with the window before it in the batch of all processes.
    """

    steps: range
    share: RankSlice
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mixtures: bool = False


Item = TypeVar("Item")
Mine = TypeVar("Mine", bound="Prefetcher[Any]")


class Prefetcher(ABC, Generic[Item]):
    """Iterates over the batches of ``steps``; a batch depends on its step alone.

    Use it as a context manager: its end stops the thread, whatever the state of the iteration.

    Parameters
    ----------
    steps : range
        The steps to prepare, in order.

    Attributes
    ----------
    wait_seconds : float
        Time that the consumer has waited for batches.
    """

    def __init__(self, steps: range) -> None:
        self.steps, self.wait_seconds = steps, 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready: Iterator[Item] = iter(())
        self._peeked: Item | None = None

    @abstractmethod
    def batch(self, step: int) -> Item:
        """Return the batch of one step."""

    def __enter__(self: Mine) -> Mine:
        """Start the thread."""
        batches = Background(map(self.batch, self.steps), self._stop, QUEUE_SIZE)
        self._ready = iter(batches)
        self._thread = threading.Thread(target=batches.run, name="batches", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        """Yield the batches in the order of the steps; an error of the thread is raised here."""
        for _ in self.steps:
            batch, self._peeked = self.peek(), None
            yield batch

    def peek(self) -> Item:
        """Return the next batch without removing it.

        Raises
        ------
        ConfigError
            Outside the context.
        """
        if self._thread is None:
            raise ConfigError("a loader prepares batches only inside its context; write: with loader: ...")
        if self._peeked is None:
            begin = time.perf_counter()
            try:
                self._peeked = next(self._ready)
            finally:
                self.wait_seconds += time.perf_counter() - begin
        return self._peeked
