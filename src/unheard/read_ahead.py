"""Iterations that threads compute in advance, with few items in memory.

For embeddings, one thread reads one sound while the encoder computes:

    sounds -> readers: file -> wav -> spec -> windows -> bounded queues -> the caller, in order

Decoding, resampling and the Fourier transform release the GIL. A reader waits when `WAITING` windows of its sound are
not taken yet, so memory depends neither on the number of sounds nor on their lengths.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Generic, TypeVar

WAITING = 16
"""Largest number of items of one sound that wait for the caller (our choice)."""

MOST_READERS = 16
"""Largest number of readers that `reader_count` proposes (our choice)."""

Source = TypeVar("Source")
Item = TypeVar("Item")


class _Done:
    """Marks the end of an iteration in a queue, with the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Background(Generic[Item]):
    """An iterable whose items another thread computes.

    Parameters
    ----------
    items : iterable
        Iterated by the other thread, in `run`.
    stop : Event
        Ends `run` early.
    waiting : int
        Largest number of items that wait.
    """

    def __init__(self, items: Iterable[Item], stop: threading.Event, waiting: int = WAITING) -> None:
        self._items, self._stop = items, stop
        self._ready: queue.Queue[Item | _Done] = queue.Queue(waiting)

    def run(self) -> None:
        """Compute the items; an error is raised where the items are taken."""
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(_Done())
        except BaseException as error:
            self._put(_Done(error))

    def _put(self, item: Item | _Done) -> bool:
        """Wait for a free place; return False when the iteration was stopped."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in order."""
        while not isinstance(item := self._ready.get(), _Done):
            yield item
        if item.error is not None:
            raise item.error


def reader_count() -> int:
    """Return the default number of readers: one for each core this process may use, at most `MOST_READERS`."""
    return min(MOST_READERS, core_count())


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_ahead(
    sources: Iterable[Source], read: Callable[[Source], Iterable[Item]], readers: int, waiting: int = WAITING
) -> Iterator[tuple[Source, Iterable[Item]]]:
    """Yield sources in order, each with the items that ``read`` gives for it; take the items before the next source.

    Parameters
    ----------
    read : callable
        Called in the thread of the caller; what it returns is iterated by a reader. An error of the iteration is raised
        where its items are taken.
    readers : int
        Number of threads. With 0, or a single source, the thread of the caller does everything: for one short sound,
        a new thread costs a fifth of the time of an embedding.
    waiting : int
        Largest number of items of one source that wait.
    """
    sources = iter(sources)
    first = list(islice(sources, 2 if readers else 0))
    sources = chain(first, sources)
    if len(first) < 2:
        yield from ((source, read(source)) for source in sources)
        return
    stop, ahead = threading.Event(), deque[tuple[Source, Background[Item]]]()
    pool = ThreadPoolExecutor(readers, thread_name_prefix="reader")
    try:
        for source in sources:
            background = Background(read(source), stop, waiting)
            pool.submit(background.run)
            ahead.append((source, background))
            if len(ahead) > readers:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def in_background(items: Iterable[Item], readers: int, waiting: int = WAITING) -> Iterator[Item]:
    """Yield items that one other thread computes in advance, at most ``waiting`` of them; with 0 ``readers`` the thread
    of the caller does.
    """
    if not readers:
        yield from items
        return
    stop = threading.Event()
    background = Background(items, stop, waiting)
    thread = threading.Thread(target=background.run, name="background", daemon=True)
    thread.start()
    try:
        yield from background
    finally:
        stop.set()
        thread.join()
