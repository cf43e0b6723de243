"""Run a job in tasks: all of them by workers, or one for each call; then join their parts once.

    driver      lock the output -> plan -> workers do what is missing -> join
    array task  plan -> do one task -> lock the output if no task is missing -> join

A verb supplies a `Job`, the lock of its output, and a function that joins the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from unheard.errors import ConfigError, DataError, InUseError, shown, warn_audio
from unheard.jobs.addressed_ray import addressed_job, done_by_workers
from unheard.jobs.engines import Spread, array_task, open_workers
from unheard.jobs.plan import TASK_ITEMS, Outcome, Plan, open_plan, read_plan, task_count, tasks_folder
from unheard.jobs.session import Failure, Session, Work
from unheard.jobs.supervise import run
from unheard.outputs import refuse_existing
from unheard.progress import Track, silent
from unheard.read_ahead import core_count

Result = TypeVar("Result")
SomeWork = TypeVar("SomeWork", bound=Work)


@dataclass(frozen=True)
class Job(Generic[SomeWork]):
    """What is done in tasks.

    Parameters
    ----------
    folder : Path
        Folder of the parts.
    items : sequence
        What is left to do, in order.
    key : callable
        Gives a text that identifies an item from any working directory.
    identity : dict
        All that the parts depend on apart from the items, as plain values.
    check : callable
        Refuses the identity of an interrupted job that is not this one.
    work : Work
        Sent to the workers.
    unit : str
        What the items are, for messages.
    description : str
        What is done, for the progress.
    task_items : int
        Planned number of items of a task.
    """

    folder: Path
    items: Sequence[Any]
    key: Callable[[Any], str]
    identity: dict[str, Any]
    check: Callable[[dict[str, Any]], None]
    work: SomeWork
    unit: str
    description: str
    task_items: int = TASK_ITEMS

    def plan(self, tasks: int) -> Plan:
        """Open the plan of an interrupted job of the same identity, or make one.

        Raises
        ------
        ConfigError, DataError
            When the interrupted job is another one, or its plan is damaged.
        """
        stored = read_plan(self.folder)
        if stored is not None:
            self.check(stored["identity"])
        return open_plan(self.folder, self.identity, self.items, map(self.key, self.items), tasks)


@dataclass(frozen=True)
class Parts:
    """All tasks of a job that is done.

    Parameters
    ----------
    plan : Plan
    now : frozenset of int
        Numbers of the tasks that were done now; with tasks of an array, all of them.
    """

    plan: Plan
    now: frozenset[int] = field(default_factory=frozenset)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every task, in order."""
        return self.plan.outcomes()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Return path and reason of every item that could not be used."""
        return tuple(pair for outcome in self.outcomes for pair in outcome.skipped)

    @property
    def done(self) -> int:
        """Return the number of items that were done now."""
        return sum(outcome.done for outcome in self.outcomes if outcome.number in self.now)

    @property
    def resumed(self) -> int:
        """Return the number of items that were done by an earlier attempt."""
        return sum(each.resumed + (0 if each.number in self.now else each.done) for each in self.outcomes)


@dataclass(frozen=True)
class TaskReport:
    """What one task of an array did, if it did not join the parts.

    Parameters
    ----------
    outcome : Outcome
    waits_for : str
        What the output waits for.
    """

    outcome: Outcome
    waits_for: str


def refuse_interrupted(out: Path, resume: bool, overwrite: bool) -> None:
    """Refuse an output that exists, or that has parts of an interrupted job, unless these are continued or replaced.

    Raises
    ------
    ConfigError
        With the options that the user has.
    """
    if overwrite:
        return
    interrupted = tasks_folder(out).exists()
    if interrupted and not resume:
        raise ConfigError(
            f"{out} has parts of an interrupted job; continue it with --resume, replace it with --overwrite, or choose"
            " another -o"
        )
    if not interrupted:
        refuse_existing(out, False)


def do_tasks(job: Job[SomeWork], spread: Spread, track: Track = silent) -> Parts:
    """Do all tasks of a job that are not done, by the workers of an engine. The caller holds the lock of the output.

    Raises
    ------
    DataError
        When a task loses one worker after the other.
    UnheardError
        The error of a task; the parts of tasks that are done are kept.
    """
    remote = addressed_job(job.folder)
    target = (remote.address, remote.driver) if remote else None
    with open_workers(spread, job.work, len(job.items), target) as workers:
        plan = job.plan(task_count(len(job.items), workers.size, job.task_items))
        missing = frozenset(plan.missing())
        with done_by_workers(remote) if remote else nullcontext():
            run(plan, job.work, workers, track, job.description)
        if left := _numbers(plan.missing(), plan.tasks):
            raise DataError(
                f"{shown(job.folder)} lacks {left}: another process has joined or deleted their parts; if the output is"
                " complete, the job is done; otherwise give the same command again with --resume"
            )
    return Parts(plan, missing)


def do_array_task(
    job: Job[SomeWork],
    here: Work,
    spread: Spread,
    items: int,
    lock: Callable[[], AbstractContextManager[None]],
    join: Callable[[Parts], Result],
) -> Result | TaskReport:
    """Do one task in this process, and join the parts if it was the last one.

    Parameters
    ----------
    here : Work
        The work in this process.
    items : int
        Number of items of the whole job, with those that an existing output holds.
    lock : callable
        Gives the lock of the output, which is held while the parts are joined.

    Raises
    ------
    ConfigError
        When ``--task`` is not I/N, or the tasks of an interrupted job are others.
    UnheardError
        The error of the task.
    """
    number, tasks = array_task(spread, items, job.unit)
    plan = job.plan(min(tasks, len(job.items)))
    if plan.tasks != min(tasks, len(job.items)):
        raise ConfigError(
            f"{shown(job.folder)} has parts of a job of {plan.tasks} tasks; give --task {number}/{plan.tasks}"
        )
    if number > plan.tasks:
        return TaskReport(Outcome(number, 0, 0, 0), "the other tasks: this one has nothing to do")
    outcome = Session(here, 0, core_count(), str(Path.cwd())).do(plan.task(number))
    if isinstance(outcome, Failure):
        raise outcome.error
    for text in outcome.warnings:
        warn_audio(text)
    waits = _numbers(plan.missing(), plan.tasks)
    if not waits:
        try:
            with lock():
                if job.folder.exists():
                    return join(Parts(plan, frozenset(range(1, plan.tasks + 1))))
        except InUseError:
            pass
        waits = "another process, which joins the parts"
    return TaskReport(outcome, waits)


def _numbers(missing: list[int], tasks: int) -> str:
    if not missing:
        return ""
    first = ", ".join(map(str, missing[:10]))
    return f"the tasks {first}{', ...' if len(missing) > 10 else ''} of {tasks}"
