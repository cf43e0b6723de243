"""Embed files or segments in tasks: by local processes, on Ray, or one task of an array for each call."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unheard.audio.standard_input import is_standard_input
from unheard.embedding.bulk import embed_files, embed_rows
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import precision_of, refuse_differences, refuse_other_folder
from unheard.embedding.job import Options
from unheard.embedding.segments import SegmentRow
from unheard.embedding.table_files import FORMATS, read_columns, read_identity, read_paths
from unheard.embedding.table_jobs.inputs import rows_left, table_identity
from unheard.embedding.table_jobs.joining import join, joined
from unheard.embedding.table_jobs.report import BulkReport, NothingReadError
from unheard.embedding.table_jobs.work import EmbedWork
from unheard.embedding.tables import absolute, parts_folder
from unheard.errors import ConfigError, shown
from unheard.jobs.engines import Spread, refuse_overwrite, worker_count
from unheard.jobs.plan import tasks_folder
from unheard.jobs.running import Job, Parts, do_array_task, do_tasks
from unheard.jobs.session import OpenedWork
from unheard.outputs import locked_file
from unheard.progress import Track, silent


@dataclass(frozen=True)
class TableJob:
    """A table of embeddings to write.

    Parameters
    ----------
    model : EmbeddingModel
        Loaded, with its speed set.
    items : list of str, or list of SegmentRow
        Different files or segments.
    out : Path
        The table.
    options : Options
        Complete, as `checked_options` returns them.
    device : str
        Device of the model in other processes.
    """

    model: EmbeddingModel
    items: list[str] | list[SegmentRow]
    out: Path
    options: Options
    device: str

    @property
    def segments(self) -> bool:
        """Return whether the items are segments."""
        return isinstance(self.items[0], SegmentRow)

    @property
    def unit(self) -> str:
        """Return what the items are, for messages."""
        return "segments" if self.segments else "files"

    @property
    def identity(self) -> dict[str, Any]:
        """Return the identity of the table."""
        return {**table_identity(self.model, self.options, self.segments), "size": self.model.row_size(self.options)}

    @property
    def folder(self) -> Path:
        """Return the folder of the parts of tasks."""
        return tasks_folder(self.out)

    @property
    def replaces(self) -> Path:
        """Return the file that marks a job in tasks which replaces an existing table."""
        return self.folder / "replaces"

    @property
    def extends(self) -> bool:
        """Return whether there is a table whose rows are kept."""
        return self.out.exists() and not self.replaces.exists()

    def work(self) -> EmbedWork:
        """Return what workers need.

        Raises
        ------
        ConfigError
            When other processes cannot load the model, because it was built in Python.
        """
        if not self.model.origin:
            raise ConfigError(
                "a model that was built in Python exists in this process only; save it, and give its folder"
            )
        speed = self.model.workers, self.model.batch_size
        precision: Precision = "bf16" if precision_of(self.model) == "bf16" else "float32"
        same = table_identity(self.model, self.options, self.segments)
        return EmbedWork(self.model.origin, self.device, precision, *speed, self.options, self.segments, same)


def embed_job(
    job: TableJob, spread: Spread, *, resume: bool = False, overwrite: bool = False, track: Track = silent
) -> BulkReport:
    """Embed files or segments into one table: in this process, or in tasks if ``spread`` asks for it.

    The table is the same, whatever process computes a row: embeddings agree up to rounding, and rows are in the order
    of the items. An interrupted job in tasks is continued in tasks, by any number of processes.

    Raises
    ------
    DataError
        When nothing can be read, or a task loses one worker after the other.
    ConfigError
        When ``out`` exists and neither ``resume`` nor ``overwrite`` is given, ``resume`` finds another job, or there
        are more processes or tasks than items.
    """
    if spread == Spread():
        if overwrite:
            with locked_file(job.out):
                shutil.rmtree(job.folder, ignore_errors=True)
        if not job.folder.exists():
            options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "track": track}
            if job.segments:
                return embed_rows(job.model, _segments(job), job.out, job.options, **options)
            return embed_files(job.model, _files(job), job.out, job.options, **options)
    check_job(job, spread, overwrite)
    if spread.task is not None:
        return _embed_task(job, spread, resume, track)
    with locked_file(job.out):
        left = _left(job, resume, overwrite)
        if not left:
            return _nothing_left(job)
        return _join(job, do_tasks(_in_tasks(job, left), spread, track), earlier=resume and job.extends)


def check_job(job: TableJob, spread: Spread, overwrite: bool = False) -> None:
    """Refuse options that exclude each other, before anything starts.

    Raises
    ------
    ConfigError
        Naming them.
    """
    if job.out.suffix not in FORMATS:
        raise ConfigError(f"{job.out}: the name of the table must end in {', '.join(FORMATS)}")
    if not job.segments and any(map(is_standard_input, _files(job))):
        raise ConfigError("the standard input is read by one process; leave --engine, --processes and --task out")
    refuse_overwrite(spread, overwrite)
    worker_count(spread, len(job.items), job.unit)


def _embed_task(job: TableJob, spread: Spread, resume: bool, track: Track) -> BulkReport:
    """Do one task of an array, and join the parts if it was the last one."""
    left = _left(job, resume or job.folder.exists(), False)
    if not left:
        return _nothing_left(job)
    tasks = _in_tasks(job, left)
    report = do_array_task(
        tasks,
        OpenedWork(tasks.work.doing(job.model, track)),
        spread,
        len(job.items),
        lambda: locked_file(job.out),
        lambda parts: _join(job, parts, earlier=job.extends),
    )
    if isinstance(report, BulkReport):
        return report
    outcome = report.outcome
    return BulkReport(job.out, outcome.rows, outcome.done, outcome.resumed, outcome.skipped, report.waits_for)


def _in_tasks(job: TableJob, left: list[Any]) -> Job[EmbedWork]:
    """Return the job of the items that the table lacks."""
    check = partial(refuse_differences, shown(job.out), wanted=job.identity)
    return Job(job.folder, left, _key, job.identity, check, job.work(), job.unit, "embedding")


def _nothing_left(job: TableJob) -> BulkReport:
    """Return the report of a job whose table is complete."""
    return BulkReport(job.out, len(read_columns(job.out, ("path",))[0]), 0, len(job.items), ())


def _files(job: TableJob) -> list[str]:
    return [item for item in job.items if isinstance(item, str)]


def _segments(job: TableJob) -> list[SegmentRow]:
    return [item for item in job.items if isinstance(item, SegmentRow)]


def _key(item: str | SegmentRow) -> str:
    """Return a text that identifies an item from any working directory."""
    return absolute(item) if isinstance(item, str) else repr((absolute(item.path), item.start, item.end))


def _left(job: TableJob, resume: bool, overwrite: bool) -> list[Any]:
    """Return the items that the table lacks; refuse an existing table unless it is to be continued or replaced."""
    parts = parts_folder(job.out)
    if overwrite:
        shutil.rmtree(job.folder, ignore_errors=True)
        shutil.rmtree(parts, ignore_errors=True)
        if job.out.exists():
            job.folder.mkdir(exist_ok=True)
            job.replaces.touch()
        return job.items
    if joined(job.folder, job.out):
        shutil.rmtree(job.folder, ignore_errors=True)
    interrupted = parts.exists() or job.folder.exists()
    if not resume and (job.out.exists() or interrupted):
        state = "exists" if job.out.exists() else "has parts of an interrupted job"
        raise ConfigError(
            f"{job.out} {state}; continue it with --resume, replace it with --overwrite, or choose another -o"
        )
    if parts.exists():
        raise ConfigError(
            f"{job.out} has parts of a job of one process; continue it without --engine, --processes and --task"
        )
    if not job.extends:
        return job.items
    refuse_differences(shown(job.out), read_identity(job.out), job.identity)
    refuse_other_folder([job.out])
    if job.segments:
        columns = read_columns(job.out, ("path", "start", "end"))
        stored = ((absolute(path), start, end) for path, start, end in zip(*columns, strict=True))
        return rows_left(_segments(job), stored)
    done = set(map(absolute, read_paths(job.out)))
    return [file for file in _files(job) if absolute(file) not in done]


def _join(job: TableJob, parts: Parts, earlier: bool) -> BulkReport:
    """Join the parts and return the report of the job."""
    if not any(outcome.rows for outcome in parts.outcomes) and not earlier:
        parts.plan.discard()
        first = ": ".join(next(iter(parts.skipped), ("", "")))
        raise NothingReadError(
            f"none of the {len(job.items)} {job.unit} could be read; the first one: {first}", parts.skipped
        )
    rows = join(parts.plan, parts.outcomes, job.out, job.identity, earlier)
    resumed = parts.resumed + len(job.items) - len(parts.plan.items)
    return BulkReport(job.out, rows, parts.done, resumed, parts.skipped)
