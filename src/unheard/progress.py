"""Progress display: a function that wraps an iterable and shows how many items are done.

Library functions take ``track: Track = silent``. The command line passes `bar`, which prints to stderr.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from threading import Lock
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Mine = TypeVar("Mine", bound="ProgressCounter")
SHORT = 10
"""Seconds; a shorter remaining time is not printed in lines (our choice)."""


@runtime_checkable
class Track(Protocol):
    """Yields the items of an iterable and may show how many are done.

    An item counts as done when the next one is requested. The last one is done when the iterator is exhausted.
    """

    def __call__(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Yield every item of ``items``; ``total`` is how many there will be."""
        ...


def silent(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items without a display."""
    yield from items


def bar(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items and show a progress bar with rate and remaining time on stderr; plain lines if it is no
    terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield from _lines(items, total, description)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items and print a line after every tenth of them, for logs; with the remaining time if it is long."""
    step, begin = max(1, total // 10), time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done % step == 0 or done == total:
            left = (time.monotonic() - begin) / done * (total - done)
            ending = f", about {duration(left)} left" if left >= SHORT else ""
            print(f"{description}: {done}/{total}{ending}", file=sys.stderr, flush=True)


class ProgressCounter:
    """Shows by a `Track` how much is done, for work that is read ahead, or is not counted in items; a context manager.

    All of it is shown as done when the context ends without an error. Threads may share an object.

    Parameters
    ----------
    track : Track
    total : int
    description : str

    Attributes
    ----------
    stopped : bool
        Whether the display has ended the iteration early.
    """

    def __init__(self, track: Track, total: int, description: str) -> None:
        self._total, self._lock = total, Lock()
        self._shown = iter(track(range(total), total, description))
        self._amount, self._count, self.stopped = 0.0, 0, False
        self._next()  # the first item is begun

    def add(self, amount: float = 1.0) -> None:
        """Count what is done; only whole numbers are shown."""
        with self._lock:
            self._amount += amount
            while self._count < min(self._total, int(self._amount)):
                self._count += 1
                self._next()

    def _next(self) -> None:
        ended = next(self._shown, None) is None
        self.stopped = self.stopped or (ended and self._count < self._total)

    def __enter__(self: Mine) -> Mine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the display."""
        with self._lock:
            if kind is None and not self.stopped:
                deque(self._shown, maxlen=0)
            if isinstance(self._shown, Generator):
                self._shown.close()


def duration(seconds: float) -> str:
    """Format seconds as ``42 s``, ``3 min 5 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
