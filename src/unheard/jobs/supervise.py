"""Give the tasks of a plan to workers, and give those of lost workers to others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from unheard.errors import DataError, warn_audio, warn_job
from unheard.jobs.plan import Outcome, Plan, Task
from unheard.jobs.session import Failure, Lost, Work
from unheard.progress import Track, silent

MOST_LOSSES = 5
"""Workers that one task may lose before the job is stopped (our choice)."""


@runtime_checkable
class Workers(Protocol):
    """Processes that do tasks at the same time."""

    size: int
    """How many tasks they do at the same time."""

    def give(self, task: Task) -> None:
        """Start a task in a free worker; a new one replaces a lost one."""
        ...

    def wait(self) -> tuple[Task, Outcome | Failure | Lost]:
        """Return a task that ended, and how."""
        ...

    def close(self) -> None:
        """End all workers; they store what they have."""
        ...


def run(plan: Plan, work: Work, workers: Workers, track: Track = silent, description: str = "working") -> None:
    """Do the tasks of a plan that are not done.

    Parameters
    ----------
    work : Work
        What the workers do, for messages.
    track : Track
        Progress over the items, with a ``description``.

    Raises
    ------
    DataError
        When one task lost `MOST_LOSSES` workers.
    Exception
        The error of a task. The parts of tasks that are done are kept.
    """
    missing = plan.missing()
    total = sum(len(plan.task(number).items) for number in missing)
    try:
        for _ in track(_finished(plan, missing, work, workers), total, description):
            pass
    finally:
        workers.close()


def _finished(plan: Plan, missing: list[int], work: Work, workers: Workers) -> Iterator[Any]:
    """Yield the items of the tasks as these are done."""
    waiting, busy = deque(missing), 0
    losses: Counter[int] = Counter()
    while waiting or busy:
        while waiting and busy < workers.size:
            workers.give(plan.task(waiting.popleft()))
            busy += 1
        task, result = workers.wait()
        busy -= 1
        if isinstance(result, Failure):
            raise result.error
        if isinstance(result, Lost):
            losses[task.number] += 1
            _report(task, result, work, losses[task.number])
            waiting.appendleft(task.number)
            continue
        for text in result.warnings:
            warn_audio(text)
        yield from task.items


def _report(task: Task, lost: Lost, work: Work, losses: int) -> None:
    """Warn about a lost worker; the last one that a task may lose is an error."""
    advice = f"If memory was short, {work.advice}"
    if losses >= MOST_LOSSES:
        raise DataError(
            f"{task} lost {losses} workers, the last one because {lost.reason}. {advice}; then continue with --resume"
        )
    warn_job(
        f"a worker was lost in {task}, because {lost.reason}; another worker continues the task (loss {losses} of at"
        f" most {MOST_LOSSES}). {advice}"
    )
