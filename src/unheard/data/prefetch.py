"""Batches that one background thread prepares while the last ones are worked on."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from unheard.errors import ConfigError

QUEUE_SIZE = 3
"""Batches that wait ready at most (our choice)."""


@dataclass(frozen=True)
class RankSlice:
    """What one of several processes takes of every batch.

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
        When the batch cannot be shared out evenly.
    """

    batch_size: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        """Refuse batches that leave a rest."""
        if self.batch_size < 1 or self.batch_size % self.processes:
            raise ConfigError(
                f"a batch of {self.batch_size} does not split over {self.processes} processes; set training.batch_size"
                " to a multiple"
            )

    @property
    def local_slice(self) -> slice:
        """Positions in the batch."""
        size = self.batch_size // self.processes
        return slice(self.rank * size, (self.rank + 1) * size)


Item = TypeVar("Item")
Mine = TypeVar("Mine", bound="Prefetcher[Any]")


class Prefetcher(ABC, Generic[Item]):
    """Iterates over the batches of ``steps``, each a function of its step alone.

    Use it as a context manager: leaving it stops the thread, wherever the iteration stands.

    Parameters
    ----------
    steps : range
        Which steps to prepare, in order.

    Attributes
    ----------
    wait_seconds : float
        How long the consumer has waited for batches.
    """

    def __init__(self, steps: range) -> None:
        self.steps, self.wait_seconds = steps, 0.0
        self._ready: queue.Queue[Item | Exception] = queue.Queue(QUEUE_SIZE)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._peeked: Item | None = None

    @abstractmethod
    def batch(self, step: int) -> Item:
        """The batch of one step."""

    def __enter__(self: Mine) -> Mine:
        """Start preparing."""
        self._thread = threading.Thread(target=self._prepare, name="batches", daemon=True)
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
        """The batches in the order of the steps; what went wrong in the thread is raised here."""
        for _ in self.steps:
            batch, self._peeked = self.peek(), None
            yield batch

    def peek(self) -> Item:
        """The batch that comes next; it stays the next one.

        Raises
        ------
        ConfigError
            Outside the context.
        """
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

    def _prepare(self) -> None:
        """Run by the thread: put batches, or what went wrong, into the queue."""
        try:
            for step in self.steps:
                if not self._put(self.batch(step)):
                    return
        except Exception as error:
            self._put(error)

    def _put(self, item: Item | Exception) -> bool:
        """Wait for room; False when the loader was stopped meanwhile."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
