"""What a job will need, from a sample of its sounds that is embedded into a temporary table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unheard.embedding.bulk import embed_files, embed_rows
from unheard.embedding.segments import SegmentRow
from unheard.embedding.table_files import read_columns
from unheard.embedding.table_jobs.report import BulkReport
from unheard.embedding.table_jobs.run import TableJob, check_job
from unheard.jobs.engines import Spread
from unheard.jobs.estimate import Estimate, Measured, Size, estimate, for_a_while, sample_of


def estimate_table(job: TableJob, spread: Spread) -> Estimate:
    """Embed a sample of a job into a temporary table, and compute what the whole job will need.

    The sample is embedded by this process with the cores of one worker. Nothing of the job is started or written.

    Raises
    ------
    ConfigError
        As `embed_job`, for options that exclude each other.
    DataError
        When no sound of the sample can be read.
    """
    check_job(job, spread)
    workers = job.model.workers
    try:
        return estimate(Size(len(job.items), len(job.items), job.unit), spread, lambda threads: _measured(job, threads))
    finally:
        job.model.set_speed(workers, job.model.batch_size)


def _measured(job: TableJob, threads: int) -> Measured:
    """Embed the sample with some threads."""
    job.model.set_speed(min(threads, job.model.readers), job.model.batch_size)
    with TemporaryDirectory() as place:
        sampled, found = sample_of(job.items), Measured()
        _embed(job, sampled[:1], Path(place) / f"first{job.out.suffix}")  # the first call of torch is slow
        out = Path(place) / f"sample{job.out.suffix}"
        with found.timed():
            report = _embed(job, sampled, out)
        found.items = report.embedded + len(report.skipped)
        found.audio_hours = None if job.segments else _hours(job, out)
        found.megabytes = sum(file.stat().st_size for file in out.parent.glob(f"{out.name}*")) / 1e6
    return found


def _embed(job: TableJob, items: list[Any], out: Path) -> BulkReport:
    options = replace(job.options, on_error="skip")
    if isinstance(items[0], SegmentRow):
        return embed_rows(job.model, items, out, options, track=for_a_while())
    return embed_files(job.model, items, out, options, track=for_a_while())


def _hours(job: TableJob, out: Path) -> float:
    """Return the length of the sounds of a table."""
    if job.options.window is None:
        lengths = dict(zip(*read_columns(out, ("path", "seconds")), strict=True))
    else:
        lengths = {}
        for path, end in zip(*read_columns(out, ("path", "end")), strict=True):
            lengths[path] = max(end, lengths.get(path, 0.0))
    return float(sum(lengths.values())) / 3600
