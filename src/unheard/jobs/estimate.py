"""What a job will need, from a rate that is measured on a sample of its items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unheard.jobs.engines import Spread, array_task
from unheard.jobs.plan import TASK_ITEMS, task_count
from unheard.progress import Item, Track
from unheard.read_ahead import core_count

SAMPLE = 64
"""Most items of the sample, at equal distances in the job (our choice)."""

SAMPLE_SECONDS = 20.0
"""After this time no further item of the sample is read (our choice)."""

LARGE = (2_000_000, 100_000_000)
"""Sizes of corpora for which a plan states what they would need at the same rate (our choice)."""


@dataclass(frozen=True)
class Estimate:
    """What a job will need.

    Parameters
    ----------
    items, tasks, processes : int
        Of the job. 0 processes: one for each GPU or core of a Ray cluster.
    measured : int
        Items of the sample that the numbers come from.
    audio_hours : float or None
        Length of the sounds; None if the sample does not give it, as for segments.
    megabytes : float
        Size of the output.
    items_per_second : float
        Of one process.
    hours : float
        Duration with that number of processes, if each has cores or a GPU of its own.
    cpu_hours : float
        Processor time of all processes.
    output : str
        What is written.
    copies : bool
        Whether the parts need as much again until they are joined.
    """

    items: int
    tasks: int
    processes: int
    measured: int
    audio_hours: float | None
    megabytes: float
    items_per_second: float
    hours: float
    cpu_hours: float
    output: str = "table"
    copies: bool = True

    def lines(self) -> list[str]:
        """Return the estimate as lines of text."""
        audio = "" if self.audio_hours is None else f", {_number(self.audio_hours)} hours of audio"
        processes = f"{self.processes} processes" if self.processes > 1 else "one process"
        copies = ", and as much again for the parts until they are joined" if self.copies else ""
        large = "; ".join(
            f"{count // 10**6} million need {_number(self.megabytes * count / self.items / 1e3)} GB and"
            f" {_number(self.cpu_hours * count / self.items)} hours"
            for count in LARGE
        )
        return [
            f"{self.items} sounds{audio}; {self.tasks} tasks",
            f"{self.output}: {_number(self.megabytes)} MB{copies}",
            (
                f"time: {_number(self.hours)} hours with {processes}, {_number(self.cpu_hours)} hours of processor time"
                f" ({self.items_per_second:.3g} sounds per second and process)"
            ),
            f"at this rate, of such sounds: {large} of processor time",
            f"estimated from {self.measured} of the sounds, on this machine; nothing was written",
        ]


def _number(value: float) -> str:
    """Return a number with three digits, without an exponent if it is large."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@dataclass
class Measured:
    """A sample that was computed.

    Parameters
    ----------
    items : int
        Number of its items.
    megabytes : float
        Size of its output.
    audio_hours : float or None
    seconds, cpu_seconds : float
        Duration and processor time, which `timed` sets.
    """

    items: int = 0
    megabytes: float = 0.0
    audio_hours: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the time of a block."""
        clock, work = time.monotonic(), time.process_time()
        yield
        self.seconds, self.cpu_seconds = time.monotonic() - clock, time.process_time() - work


@dataclass(frozen=True)
class Size:
    """Size of a job.

    Parameters
    ----------
    sounds : int
    items : int
        What tasks hold; several sounds may be one item.
    unit : str
        What the items are.
    task_items : int
        Planned number of items of a task.
    """

    sounds: int
    items: int
    unit: str
    task_items: int = TASK_ITEMS


def estimate(
    size: Size, spread: Spread, measure: Callable[[int], Measured], output: str = "table", copies: bool = True
) -> Estimate:
    """Compute what a whole job will need from a sample. The sample is computed with the cores of one worker.

    Parameters
    ----------
    measure : callable
        Computes the sample with a number of threads.

    Raises
    ------
    ConfigError
        When ``--task`` is not I/N.
    """
    import torch

    processes = spread.processes or (0 if spread.engine == "ray" else 1)
    tasks = 1 if spread == Spread() else task_count(size.items, processes or core_count(), size.task_items)
    share = max(1, core_count() // (processes or core_count()))
    if spread.task is not None:
        _, processes = array_task(spread, size.items, size.unit)
        tasks, share = processes, core_count()
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, share))
    try:
        found = measure(share)
    finally:
        torch.set_num_threads(threads)
    scale = size.sounds / max(1, found.items)
    return Estimate(
        size.sounds,
        tasks,
        processes,
        found.items,
        None if found.audio_hours is None else found.audio_hours * scale,
        found.megabytes * scale,
        found.items / found.seconds,
        found.seconds * scale / 3600 / max(1, processes),
        found.cpu_seconds * scale / 3600,
        output,
        copies,
    )


def sample_of(items: Sequence[Any]) -> list[Any]:
    """Return at most `SAMPLE` items at equal distances."""
    count = min(SAMPLE, len(items))
    return [items[len(items) * number // count] for number in range(count)]


def for_a_while() -> Track:
    """Return a progress that shows nothing, and ends the iteration after `SAMPLE_SECONDS`."""
    until = time.monotonic() + SAMPLE_SECONDS

    def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        for item in items:
            yield item
            if time.monotonic() > until:
                return

    return track
