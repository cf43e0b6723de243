"""Batches that one background thread prepares in advance.

On a GPU, the thread copies and computes on a stream of its own, so that neither waits for the steps. Pinned memory is
that of PyTorch's cache, which reuses a buffer when its copy is done.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

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
    device : torch.device
        The device of the batches.

    Attributes
    ----------
    wait_seconds : float
        Time that the consumer has waited for batches.
    """

    def __init__(self, steps: range, device: torch.device = torch.device("cpu")) -> None:
        self.steps, self.device, self.wait_seconds = steps, device, 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready: Iterator[tuple[Item, torch.cuda.Event | None]] = iter(())
        self._peeked: Item | None = None

    @abstractmethod
    def batch(self, step: int) -> Item:
        """Return the batch of one step."""

    def __enter__(self: Mine) -> Mine:
        """Start the thread."""
        batches = Background(self._prepared(), self._stop, QUEUE_SIZE)
        self._ready = iter(batches)
        self._thread = threading.Thread(target=batches.run, name="batches", daemon=True)
        self._thread.start()
        return self

    def _prepared(self) -> Iterator[tuple[Item, torch.cuda.Event | None]]:
        """Prepare the batches in the thread; on a GPU each with the event at which it is complete."""
        if self.device.type != "cuda":
            yield from ((self.batch(step), None) for step in self.steps)
            return
        torch.cuda.set_device(self.device)  # a new thread is bound to the first GPU
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.default_stream(self.device))  # weights of teachers may still be copied
        torch.cuda.set_stream(stream)
        for step in self.steps:
            yield self.batch(step), stream.record_event()

    def _taken(self, item: Item, complete: torch.cuda.Event | None) -> Item:
        """Let the stream of the caller wait for a batch; its memory is not reused before that stream is done."""
        if complete is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(complete)
            for tensor in tensors_of(item):
                if tensor.is_cuda:
                    tensor.record_stream(stream)
        return item

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
                self._peeked = self._taken(*next(self._ready))
            finally:
                self.wait_seconds += time.perf_counter() - begin
        return self._peeked


def tensors_of(item: object) -> Iterator[Tensor]:
    """Yield all tensors in a batch: a tensor, or a dataclass, a mapping or a tuple of such."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, Mapping):
        for value in item.values():
            yield from tensors_of(value)
    elif isinstance(item, tuple | list):
        for value in item:
            yield from tensors_of(value)
    elif is_dataclass(item):
        for each in fields(item):
            yield from tensors_of(getattr(item, each.name))
