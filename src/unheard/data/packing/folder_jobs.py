"""A folder of shards that is written in tasks. Each task writes its shards to their final place; the join adds index
and header. The folder has the bytes of the one that a single process writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from unheard.data.shard_writing import writing
from unheard.errors import ConfigError, DataError, shown
from unheard.files import remove_unfinished
from unheard.jobs.engines import Spread, worker_count
from unheard.jobs.plan import tasks_folder
from unheard.jobs.running import Job, Parts, TaskReport, do_array_task, do_tasks
from unheard.jobs.session import Work
from unheard.outputs import locked_folder
from unheard.progress import Track, silent

Opened = TypeVar("Opened")
Found = TypeVar("Found")


@dataclass(frozen=True)
class FolderJob(Generic[Opened]):
    """A folder of shards to write.

    Parameters
    ----------
    folder : Path
    refuse : callable
        Refuses a folder with other files or with the shards of another job.
    finished : callable
        Opens the folder if it is complete; None otherwise.
    finish : callable
        Completes the folder when all shards are there.
    prepare : callable, optional
        Computes what all tasks share, before the first one.
    """

    folder: Path
    refuse: Callable[[], None]
    finished: Callable[[], Opened | None]
    finish: Callable[[], Opened]
    prepare: Callable[[], None] | None = None


def shard_job(folder: Path, shards: Sequence[Any], key: str, work: Work, unit: str, description: str) -> Job[Work]:
    """Return the job of the shards of a folder; a shard is a task, unless there are too many."""

    def check(stored: dict[str, Any]) -> None:
        if stored != {"key": key}:
            raise ConfigError(
                f"{shown(tasks_folder(folder))} has parts of another job; choose another -o, or delete this folder and"
                f" {shown(folder)}"
            )

    return Job(
        tasks_folder(folder), shards, lambda shard: str(shard.number), {"key": key}, check, work, unit, description, 1
    )


def write_folder(
    job: Job[Work], here: Work, output: FolderJob[Opened], spread: Spread, track: Track = silent
) -> Opened | TaskReport:
    """Write the shards that are missing, in tasks, and complete the folder.

    Parameters
    ----------
    here : Work
        The work in this process, for one task of an array.

    Raises
    ------
    ConfigError
        When there are more processes than shards, or the folder has parts of another job.
    DataError
        When the folder holds other files, the disk is full, or a task loses one worker after the other.
    """
    folder = output.folder
    if (opened := output.finished()) is not None:
        return opened
    worker_count(spread, len(job.items), job.unit)

    def join(parts: Parts) -> Opened:
        remove_unfinished(folder)
        return output.finish()

    if spread.task is not None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            output.refuse()
            return do_array_task(job, here, spread, len(job.items), lambda: locked_folder(folder), join)
    with writing(folder), locked_folder(folder):
        output.refuse()
        remove_unfinished(folder)
        if output.prepare is not None:
            output.prepare()
        return join(do_tasks(job, spread, track))


def required(found: Found | None, folder: Path, number: int) -> Found:
    """Return the record of a shard that a task has written.

    Raises
    ------
    DataError
        When it is missing or damaged.
    """
    if found is None:
        raise DataError(
            f"{folder}: the record of shard {number} is missing or damaged, although its task is done; delete"
            f" {tasks_folder(folder)} and run the command again, finished shards are kept"
        )
    return found
