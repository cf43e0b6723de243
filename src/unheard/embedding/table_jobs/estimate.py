"""What a job will need, from a rate that is measured on a sample of its sounds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unheard.embedding.bulk import embed_files, embed_rows
from unheard.embedding.segments import SegmentRow
from unheard.embedding.table_files import read_columns
from unheard.embedding.table_jobs.report import BulkReport
from unheard.embedding.table_jobs.run import TableJob, check_job
from unheard.jobs.engines import Spread, array_task
from unheard.jobs.plan import task_count
from unheard.progress import Item, Track
from unheard.read_ahead import core_count

SAMPLE = 64
"""Most items of the sample, at equal distances in the job (our choice)."""

SAMPLE_SECONDS = 20.0
"""After this time no further item of the sample is read (our choice)."""


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
        Size of the table. The parts need as much again until they are joined.
    items_per_second : float
        Of one process.
    hours : float
        Duration with that number of processes, if each has cores or a GPU of its own.
    cpu_hours : float
        Processor time of all processes.
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


def estimate(job: TableJob, spread: Spread) -> Estimate:
    """Embed a sample of a job into a temporary table, and compute what the whole job will need.

    The sample is embedded by this process with the cores of one worker. Nothing of the job is started or written.

    Raises
    ------
    ConfigError
        As `embed_job`, for options that exclude each other.
    DataError
        When no sound of the sample can be read.
    """
    import torch

    check_job(job, spread)
    count = len(job.items)
    processes = spread.processes or (0 if spread.engine == "ray" else 1)
    tasks = 1 if spread == Spread() else task_count(count, processes or core_count())
    if spread.task is not None:
        _, processes = array_task(spread, count, job.unit)
        tasks = processes
    share = core_count() if spread.task is not None else max(1, core_count() // (processes or core_count()))
    threads, workers = torch.get_num_threads(), job.model.workers
    torch.set_num_threads(min(threads, share))
    job.model.set_speed(min(share, job.model.readers), job.model.batch_size)
    try:
        with TemporaryDirectory() as place:
            sampled = _sample(job.items)
            _embed(job, sampled[:1], Path(place) / f"first{job.out.suffix}")  # the first call of torch is slow
            out = Path(place) / f"sample{job.out.suffix}"
            clock, work = time.monotonic(), time.process_time()
            report = _embed(job, sampled, out)
            seconds, worked = time.monotonic() - clock, time.process_time() - work
            measured = max(1, report.embedded + len(report.skipped))
            hours = None if job.segments else _hours(job, out)
            size = sum(file.stat().st_size for file in out.parent.glob(f"{out.name}*"))
    finally:
        torch.set_num_threads(threads)
        job.model.set_speed(workers, job.model.batch_size)
    scale = count / measured
    return Estimate(
        count,
        tasks,
        processes,
        measured,
        None if hours is None else hours * scale,
        size * scale / 1e6,
        measured / seconds,
        seconds * scale / 3600 / max(1, processes),
        worked * scale / 3600,
    )


def _sample(items: list[Any]) -> list[Any]:
    """Return items at equal distances."""
    count = min(SAMPLE, len(items))
    return [items[len(items) * number // count] for number in range(count)]


def _embed(job: TableJob, items: list[Any], out: Path) -> BulkReport:
    options = replace(job.options, on_error="skip")
    if isinstance(items[0], SegmentRow):
        return embed_rows(job.model, items, out, options, track=_for_a_while())
    return embed_files(job.model, items, out, options, track=_for_a_while())


def _for_a_while() -> Track:
    """Return a progress that shows nothing, and ends the iteration after `SAMPLE_SECONDS`."""
    until = time.monotonic() + SAMPLE_SECONDS

    def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        for item in items:
            yield item
            if time.monotonic() > until:
                return

    return track


def _hours(job: TableJob, out: Path) -> float:
    """Return the length of the sounds of a table."""
    if job.options.window is None:
        lengths = dict(zip(*read_columns(out, ("path", "seconds")), strict=True))
    else:
        lengths = {}
        for path, end in zip(*read_columns(out, ("path", "end")), strict=True):
            lengths[path] = max(end, lengths.get(path, 0.0))
    return float(sum(lengths.values())) / 3600
