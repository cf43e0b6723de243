"""Embed files or segments in tasks: by local processes, on Ray, or one task of an array for each call."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.audio.standard_input import is_standard_input
from unheard.embedding.bulk import embed_files, embed_rows
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import precision_of, refuse_differences
from unheard.embedding.job import Options
from unheard.embedding.segments import SegmentRow
from unheard.embedding.table_files import FORMATS, read_columns, read_identity, read_paths
from unheard.embedding.table_jobs.inputs import rows_left, table_identity
from unheard.embedding.table_jobs.joining import join, joined
from unheard.embedding.table_jobs.report import BulkReport, NothingReadError
from unheard.embedding.table_jobs.work import EmbedWork, LoadedWork
from unheard.embedding.tables import absolute, parts_folder
from unheard.errors import ConfigError, InUseError, shown, warn_audio
from unheard.jobs.engines import Spread, array_task, open_workers, worker_count
from unheard.jobs.plan import Outcome, Plan, open_plan, read_plan, task_count
from unheard.jobs.session import Failure, Session
from unheard.jobs.supervise import run
from unheard.outputs import locked_file
from unheard.progress import Track, silent
from unheard.read_ahead import core_count


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
        return self.out.with_name(f".{self.out.name}.tasks")

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
        with open_workers(spread, job.work(), len(left)) as workers:
            plan = _plan(job, left, task_count(len(left), workers.size))
            missing = set(plan.missing())
            run(plan, job.work(), workers, track, "embedding")
        return _join(job, plan, missing, earlier=resume and job.out.exists())


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
    if spread.task is not None and overwrite:
        raise ConfigError(
            "--task continues what the other tasks wrote; leave --overwrite out, and delete the old table"
        )
    worker_count(spread, len(job.items), job.unit)


def _embed_task(job: TableJob, spread: Spread, resume: bool, track: Track) -> BulkReport:
    """Do one task of an array, and join the parts if it was the last one."""
    number, tasks = array_task(spread, len(job.items), job.unit)
    left = _left(job, resume or job.folder.exists(), False)
    if not left:
        return _nothing_left(job)
    plan = _plan(job, left, min(tasks, len(left)))
    if plan.tasks != min(tasks, len(left)):
        raise ConfigError(
            f"{shown(job.folder)} has parts of a job of {plan.tasks} tasks; give --task {number}/{plan.tasks}"
        )
    if number > plan.tasks:
        return BulkReport(job.out, 0, 0, 0, (), "the other tasks: this one has nothing to do")
    session = Session(LoadedWork(job.work(), job.model, track), 0, core_count(), str(Path.cwd()))
    outcome = session.do(plan.task(number))
    if isinstance(outcome, Failure):
        raise outcome.error
    for text in outcome.warnings:
        warn_audio(text)
    return _join_if_complete(job, plan, outcome)


def _join_if_complete(job: TableJob, plan: Plan, outcome: Outcome) -> BulkReport:
    """Join the parts if all tasks are done; otherwise return the report of one task."""
    waits = _numbers(plan.missing(), plan.tasks)
    if not waits:
        try:
            with locked_file(job.out):
                if job.folder.exists():
                    return _join(job, plan, set(range(1, plan.tasks + 1)), earlier=job.out.exists())
        except InUseError:
            pass
        waits = "another process, which joins the parts"
    return BulkReport(job.out, outcome.rows, outcome.done, outcome.resumed, outcome.skipped, waits)


def _numbers(missing: list[int], tasks: int) -> str:
    if not missing:
        return ""
    first = ", ".join(map(str, missing[:10]))
    return f"the tasks {first}{', ...' if len(missing) > 10 else ''} of {tasks}"


def _nothing_left(job: TableJob) -> BulkReport:
    """Return the report of a job whose table is complete."""
    return BulkReport(job.out, len(read_columns(job.out, ("path",))[0]), 0, len(job.items), ())


def _files(job: TableJob) -> list[str]:
    return [item for item in job.items if isinstance(item, str)]


def _segments(job: TableJob) -> list[SegmentRow]:
    return [item for item in job.items if isinstance(item, SegmentRow)]


def _plan(job: TableJob, left: list[Any], tasks: int) -> Plan:
    """Open the plan of an interrupted job of the same identity, or make one."""
    stored = read_plan(job.folder)
    if stored is not None:
        refuse_differences(shown(job.out), stored["identity"], job.identity)
    keys = [
        repr((absolute(each.path), each.start, each.end)) if isinstance(each, SegmentRow) else absolute(each)
        for each in left
    ]
    return open_plan(job.folder, job.identity, left, keys, tasks)


def _key(item: str | SegmentRow) -> str:
    """Return a text that identifies an item from any working directory."""
    return absolute(item) if isinstance(item, str) else repr((absolute(item.path), item.start, item.end))


def _left(job: TableJob, resume: bool, overwrite: bool) -> list[Any]:
    """Return the items that the table lacks; refuse an existing table unless it is to be continued or replaced."""
    parts = parts_folder(job.out)
    if overwrite:
        shutil.rmtree(job.folder, ignore_errors=True)
        shutil.rmtree(parts, ignore_errors=True)
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
    if not job.out.exists():
        return job.items
    refuse_differences(shown(job.out), read_identity(job.out), job.identity)
    if job.segments:
        columns = read_columns(job.out, ("path", "start", "end"))
        stored = {(absolute(path), start, end) for path, start, end in zip(*columns, strict=True)}
        return rows_left(_segments(job), stored)
    done = set(map(absolute, read_paths(job.out)))
    return [file for file in _files(job) if absolute(file) not in done]


def _join(job: TableJob, plan: Plan, missing: set[int], earlier: bool) -> BulkReport:
    """Join the parts and return the report of the job, in which the tasks of ``missing`` were done now."""
    outcomes = plan.outcomes()
    skipped = tuple(pair for outcome in outcomes for pair in outcome.skipped)
    if not any(outcome.rows for outcome in outcomes) and not earlier:
        plan.discard()
        first = ": ".join(next(iter(skipped), ("", "")))
        raise NothingReadError(
            f"none of the {len(job.items)} {job.unit} could be read; the first one: {first}", skipped
        )
    rows = join(plan, outcomes, job.out, job.identity, earlier)
    embedded = sum(outcome.done for outcome in outcomes if outcome.number in missing)
    resumed = sum(outcome.resumed + (0 if outcome.number in missing else outcome.done) for outcome in outcomes)
    return BulkReport(job.out, rows, embedded, resumed + len(job.items) - len(plan.items), skipped)
