"""Scores of many files in one table, by several processes.

A task scores whole groups of `CHUNK` files, which are computed together by one process, too. So the joined table has
the bytes of the table of one process.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from unheard.audio.standard_input import is_standard_input
from unheard.devices import device_of_worker
from unheard.embedding.embedder import Precision, Sound
from unheard.embedding.identity import refuse_differences
from unheard.embedding.table_files import clear_errors, write_companion
from unheard.errors import AudioError, ConfigError, DataError, shown
from unheard.files import write_table
from unheard.finetuning.ensemble import CHUNK
from unheard.finetuning.predicting.groups import group_key, grouped
from unheard.finetuning.predicting.scorer import FileScorer, open_scorer
from unheard.jobs.engines import Spread, refuse_overwrite, worker_count
from unheard.jobs.estimate import Estimate, Measured, Size, estimate, for_a_while, sample_of
from unheard.jobs.plan import Outcome, Task, tasks_folder
from unheard.jobs.running import Job, Parts, TaskReport, do_array_task, do_tasks, refuse_interrupted
from unheard.jobs.session import FEWER, Do, OpenedWork
from unheard.outputs import locked_file
from unheard.progress import ProgressCounter, Track, silent
from unheard.read_ahead import reader_count

TIMED = 8
"""Files of a sample that are scored at once, so that its time can be limited (our choice)."""


@dataclass(frozen=True)
class ScoreWork:
    """What a worker needs to score files; the model is loaded by its name.

    Parameters
    ----------
    model, device, precision, words
        As `open_scorer` takes them.
    identity : dict
        That of the scores; the model of a worker must have the same.
    """

    model: str
    device: str
    precision: Precision
    words: str | None
    identity: dict[str, Any]
    advice: ClassVar[str] = FEWER
    shared: ClassVar[tuple[str, ...]] = ()

    def open(self, worker: int, threads: int) -> Do:
        """Load the model on ``threads`` cores.

        Raises
        ------
        ConfigError
            When the model of this worker is not that of the job.
        """
        scorer = open_scorer(self.model, device_of_worker(self.device, worker, threads), self.precision, self.words)
        scorer.set_readers(min(threads, reader_count()))
        refuse_differences(f"the table of worker {worker}", self.identity, scorer.identity)
        return partial(_score, scorer, silent)


@dataclass(frozen=True)
class ScoreJob:
    """A table of scores to write.

    Parameters
    ----------
    scorer : FileScorer
    files : list of str
        Different files.
    out : Path
        The table.
    device, precision, words
        Of the model in other processes, as `open_scorer` takes them.
    """

    scorer: FileScorer
    files: list[str]
    out: Path
    device: str = "auto"
    precision: Precision = "float32"
    words: str | None = None

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Return the files in groups that are computed together."""
        return grouped(self.files, CHUNK)

    @property
    def unit(self) -> str:
        """Return what tasks hold, for messages."""
        return f"groups of {CHUNK} files"


@dataclass(frozen=True)
class ScoreReport:
    """Summary of a job.

    Parameters
    ----------
    out : Path
    rows : int
        Number of rows of the table.
    done, resumed : int
        Number of files scored now, and by an earlier attempt.
    skipped : tuple of (path, reason)
        Files that could not be read.
    """

    out: Path
    rows: int
    done: int
    resumed: int
    skipped: tuple[tuple[str, str], ...]


def score_in_tasks(
    job: ScoreJob, spread: Spread, *, resume: bool = False, overwrite: bool = False, track: Track = silent
) -> ScoreReport | TaskReport:
    """Score files in tasks and join the parts to one table.

    Returns
    -------
    ScoreReport
        When the table is written; otherwise the report of one task of an array.

    Raises
    ------
    ConfigError
        When the table exists or an interrupted job is another one, or there are more processes than groups of files.
    DataError
        When no file can be read, or a task loses one worker after the other.
    """
    groups, folder = job.groups, tasks_folder(job.out)
    if any(map(is_standard_input, job.files)):
        raise ConfigError("the standard input is read by one process; leave --engine, --processes and --task out")
    refuse_overwrite(spread, overwrite)
    worker_count(spread, len(groups), job.unit)
    identity = job.scorer.identity
    work = ScoreWork(job.scorer.name, job.device, job.precision, job.words, identity)
    check = partial(refuse_differences, shown(job.out), wanted=identity)
    tasks = Job(folder, groups, group_key, identity, check, work, job.unit, "predicting", 1)
    if spread.task is not None:
        refuse_interrupted(job.out, resume=folder.exists(), overwrite=False)
        here = OpenedWork(partial(_score, job.scorer, track))
        return do_array_task(tasks, here, spread, len(groups), lambda: locked_file(folder), partial(_join, job))
    with locked_file(job.out):
        refuse_interrupted(job.out, resume, overwrite)
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        return _join(job, do_tasks(tasks, spread, track))


def estimate_scores(job: ScoreJob, spread: Spread) -> Estimate:
    """Score a sample of the files, and compute what the whole job will need. Nothing is written.

    Raises
    ------
    ConfigError
        As `score_in_tasks`, for options that exclude each other.
    """
    worker_count(spread, len(job.groups), job.unit)

    def measure(threads: int) -> Measured:
        job.scorer.set_readers(min(threads, reader_count()))
        sampled, found, rows = sample_of(job.files), Measured(), list[tuple[str, np.ndarray]]()
        list(job.scorer.scores(sampled[:1], _ignore))  # the first call of torch is slow
        with found.timed():
            for some in for_a_while()(grouped(sampled, TIMED), 0, "predicting"):
                rows += job.scorer.scores(some, _ignore)
                found.items += len(some)
        with TemporaryDirectory() as place:
            found.megabytes = write_scores(Path(place) / "sample.csv", job.scorer.labels, rows).stat().st_size / 1e6
        return found

    return estimate(Size(len(job.files), len(job.groups), job.unit, 1), spread, measure)


def write_scores(out: Path, labels: Sequence[str], found: Iterable[tuple[str, np.ndarray]]) -> Path:
    """Write a table of scores: the path of each file, and a column for each class. Return ``out``."""
    columns = ("path", *(f"score {name}" for name in labels))  # a class may be called path
    rows = ((file, *(f"{value:.6g}" for value in scores)) for file, scores in found)
    return write_table(out, columns, (dict(zip(columns, row, strict=True)) for row in rows))


def write_identity(out: Path, scorer: FileScorer) -> None:
    """Write the model, the classes and the checksum of a table of scores next to it."""
    write_companion(out, {"model": scorer.name, "labels": list(scorer.labels)})


def _ignore(sound: Sound, error: AudioError) -> None:
    """Leave out a file that cannot be read."""


def _score(scorer: FileScorer, track: Track, task: Task) -> Outcome:
    """Score the files of a task and write their rows."""
    files, skipped, found = [file for group in task.items for file in group], dict[str, str](), []

    def skip(sound: Sound, error: AudioError) -> None:
        skipped[str(sound)] = str(error)
        done.add()

    with clear_errors(task.part):
        with ProgressCounter(track, len(files), "predicting") as done:
            for scored in scorer.scores(takewhile(lambda file: not done.stopped, files), skip):
                found.append(scored)
                done.add()
        write_scores(_part(task.part), scorer.labels, found)
    return Outcome(task.number, len(files) - len(skipped), 0, len(found), tuple(skipped.items()))


def _part(part: Path) -> Path:
    return part.with_suffix(".csv")


def _join(job: ScoreJob, parts: Parts) -> ScoreReport:
    """Write the rows of all parts as one table, in order."""
    total = sum(outcome.rows for outcome in parts.outcomes)
    if not total:
        parts.plan.discard()
        first = ": ".join(next(iter(parts.skipped), ("", "")))
        raise DataError(f"none of the {len(job.files)} files could be read; the first one: {first}")
    columns = ("path", *(f"score {name}" for name in job.scorer.labels))
    with clear_errors(job.out):
        job.out.parent.mkdir(parents=True, exist_ok=True)
        write_table(job.out, columns, _rows(parts))
        write_identity(job.out, job.scorer)
    parts.plan.discard()
    return ScoreReport(job.out, total, parts.done, parts.resumed, parts.skipped)


def _rows(parts: Parts) -> Iterator[dict[str, str]]:
    for outcome in parts.outcomes:
        part = _part(parts.plan.part(outcome.number))
        with part.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        if len(rows) != outcome.rows:
            raise DataError(
                f"{part} has {len(rows)} rows instead of {outcome.rows}: it is damaged; delete"
                f" {part.with_suffix('.json').name} next to it, then continue with --resume"
            )
        yield from rows
