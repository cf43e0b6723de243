"""Plan of a job: its items in numbered tasks, and the folder with the parts and outcomes of the tasks.

.OUT.tasks/plan.json          identity of the job, number and checksum of its items, number of tasks
.OUT.tasks/part-000001.*      what task 1 computed
.OUT.tasks/part-000001.json   outcome of task 1; written last, so the task is done if it exists
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, DataError, shown
from unheard.files import read_json, write_json

TASK_ITEMS = 256
"""Planned number of items of a task: a lost worker repeats little, and a part is a file of some MB (our choice)."""

TASKS_PER_WORKER = 4
"""Least number of tasks for each worker, so that workers end at about the same time (our choice)."""

MOST_TASKS = 10_000
"""Largest number of tasks that `task_count` proposes: each has two files in one folder (our choice)."""

PLAN = "plan.json"
SUFFIX = ".tasks"


@dataclass(frozen=True)
class Task:
    """A part of a job.

    Parameters
    ----------
    number : int
        From 1 to ``tasks``.
    tasks : int
        Number of tasks of the job.
    items : tuple
        What the task works on, in the order of the job.
    part : Path
        File for its results, without a suffix.
    """

    number: int
    tasks: int
    items: tuple[Any, ...]
    part: Path

    def __str__(self) -> str:
        return f"task {self.number} of {self.tasks}"

    @property
    def out(self) -> Path:
        """Return the output of the job."""
        folder = self.part.parent
        return folder.with_name(folder.name.removeprefix(".").removesuffix(SUFFIX))


@dataclass(frozen=True)
class Outcome:
    """Summary of a task.

    Parameters
    ----------
    number : int
        Of the task.
    done, resumed : int
        Number of items done now, and by an earlier attempt.
    rows : int
        Rows of the part; 0: there is no part.
    skipped : tuple of (path, reason)
        Items that could not be used.
    warnings : tuple of str
        Texts of the `AudioWarning` that were issued.
    """

    number: int
    done: int
    resumed: int
    rows: int
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


class Plan:
    """Tasks of a job, and what of them is done.

    Parameters
    ----------
    folder : Path
        Folder of the parts.
    items : sequence
        What the job works on; a task gets consecutive ones.
    tasks : int
        Number of tasks, at most that of the items.
    """

    def __init__(self, folder: Path, items: Sequence[Any], tasks: int) -> None:
        self.folder, self.items, self.tasks = folder, items, tasks

    def task(self, number: int) -> Task:
        """Return a task by its number, from 1."""
        first, last = (len(self.items) * each // self.tasks for each in (number - 1, number))
        return Task(number, self.tasks, tuple(self.items[first:last]), self.part(number))

    def part(self, number: int) -> Path:
        """Return the file of the results of a task, without a suffix."""
        return self.folder / f"part-{number:06d}"

    def missing(self) -> list[int]:
        """Return the numbers of the tasks that have no outcome yet."""
        there = {path.name for path in self.folder.glob("part-*.json")}
        return [number for number in range(1, self.tasks + 1) if f"{self.part(number).name}.json" not in there]

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of all tasks, in their order.

        Raises
        ------
        DataError
            When one is damaged.
        """
        return [read_outcome(self.part(number)) for number in range(1, self.tasks + 1)]

    def discard(self) -> None:
        """Delete the folder of a job that is joined."""
        shutil.rmtree(self.folder, ignore_errors=True)


def task_count(items: int, workers: int, task_items: int = TASK_ITEMS) -> int:
    """Return the default number of tasks for a number of items, of workers, and of items of a task."""
    return max(1, min(items, MOST_TASKS, max(-(-items // task_items), TASKS_PER_WORKER * workers)))


def tasks_folder(out: Path) -> Path:
    """Return the folder of the parts of an output."""
    return out.with_name(f".{out.name}{SUFFIX}")


def open_plan(folder: Path, identity: dict[str, Any], items: Sequence[Any], keys: Iterable[str], tasks: int) -> Plan:
    """Write the plan of a new job, or open the plan of an interrupted one, which keeps its number of tasks.

    Parameters
    ----------
    identity : dict
        All that the results depend on apart from the items, as plain values. The caller compares it.
    keys : iterable of str
        One text for each item that identifies it.
    tasks : int
        Number of tasks of a new job.

    Raises
    ------
    ConfigError
        When the plan was made for other items.
    DataError
        When the plan is damaged.
    """
    wanted = {"items": len(items), "checksum": _checksum(keys)}
    stored = read_plan(folder)
    if stored is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, {"identity": identity, **wanted, "tasks": tasks})
        stored = read_plan(folder) or {}  # of another process, if several of an array wrote it at the same time
    if {name: stored.get(name) for name in wanted} != wanted:
        raise ConfigError(
            f"{shown(folder)} has parts of a job of {stored.get('items')} items, and the {len(items)} items now are not"
            " the same; give the same sounds, or delete that folder to start again"
        )
    return Plan(folder, items, int(stored["tasks"]))


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Return the stored plan of an interrupted job; None if there is none.

    Raises
    ------
    DataError
        When it is damaged.
    """
    if not (folder / PLAN).is_file():
        return None
    return read_json(folder / PLAN, DataError, "delete its folder to start again")


def is_done(part: Path) -> bool:
    """Return whether the outcome of a task is stored."""
    return part.with_name(f"{part.name}.json").exists()


def write_outcome(part: Path, outcome: Outcome) -> None:
    """Store the outcome of a task, atomically; the task is done then."""
    write_json(part.with_name(f"{part.name}.json"), asdict(outcome))


def read_outcome(part: Path) -> Outcome:
    """Return the stored outcome of a task.

    Raises
    ------
    DataError
        When it is damaged.
    """
    stored = read_json(part.with_name(f"{part.name}.json"), DataError, "delete this file, then continue with --resume")
    skipped = tuple((path, reason) for path, reason in stored.pop("skipped"))
    return Outcome(**{**stored, "skipped": skipped, "warnings": tuple(stored["warnings"])})


def _checksum(keys: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(key.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
