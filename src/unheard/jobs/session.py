"""What one worker does: open the work once, then do tasks. The same for local processes, Ray and array tasks."""

from __future__ import annotations

import os
import pickle
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from unheard.errors import AudioWarning, ConfigError, InUseError, UnheardError
from unheard.jobs.addressed_ray import task_at_address
from unheard.jobs.plan import Outcome, Task, is_done, read_outcome, write_outcome
from unheard.outputs import locked_file

FORMER_WORKER_SECONDS = 60.0
"""Time in which a worker that was given up releases the lock of its part (our choice)."""

FEWER = "use fewer --processes"
"""Advice for work whose memory depends on the number of processes only."""

Do = Callable[[Task], Outcome]
"""Function that computes one task: writes its part, unless nothing is in it, and returns the outcome."""


@runtime_checkable
class Work(Protocol):
    """What a job computes; it is pickled and sent to the workers."""

    @property
    def advice(self) -> str:
        """Return what the user can do if a worker has too little memory, for messages."""
        ...

    @property
    def shared(self) -> tuple[str, ...]:
        """Return the names of files of the output that every task reads."""
        ...

    def open(self, worker: int, threads: int) -> Do:
        """Load what all tasks share, such as a model, in the ``worker``-th worker, which has ``threads`` cores."""
        ...


@dataclass(frozen=True)
class OpenedWork:
    """Work in the process that has already loaded what the tasks share.

    Parameters
    ----------
    do : callable
        Does one task.
    """

    do: Do
    advice: ClassVar[str] = FEWER
    shared: ClassVar[tuple[str, ...]] = ()

    def open(self, worker: int, threads: int) -> Do:
        """Return the function that does tasks."""
        return self.do


@dataclass(frozen=True)
class Failure:
    """An error that ended a task; a repetition would end the same way."""

    error: BaseException


@dataclass(frozen=True)
class Lost:
    """A worker that ended during a task, with the reason; the task can be continued."""

    reason: str


class Session:
    """One worker: opens the work with the first task, and does tasks.

    Parameters
    ----------
    work : Work
    worker : int
        Number of this worker, from 0.
    threads : int
        Number of cores for it.
    place : str
        Working directory of the user's process, to which paths are relative.
    target : (str, str), optional
        Address of the output, to which the part is uploaded, and id of the driver. None: the part is written to the
        path of the task.
    """

    def __init__(
        self, work: Work, worker: int, threads: int, place: str, target: tuple[str, str] | None = None
    ) -> None:
        self._work, self._worker, self._threads, self._place = work, worker, threads, place
        self._target = target
        self._do: Do | None = None

    def do(self, task: Task) -> Outcome | Failure:
        """Do a task and store its outcome. A task that is done returns the stored outcome.

        Errors are returned, because a process that is lost raises, too.
        """
        try:
            return self._done(task)
        except Exception as error:
            return Failure(_portable(error))

    def _done(self, task: Task) -> Outcome:
        """Do a task; wait for the lock of its part, which the process of a lost worker may still hold."""
        until = time.monotonic() + FORMER_WORKER_SECONDS
        if self._do is None:
            _enter(self._place)
        while True:
            try:
                with self._located(task) as here:
                    return self._done_here(here)
            except InUseError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def _located(self, task: Task) -> AbstractContextManager[Task]:
        """Return the task where this worker writes its part."""
        return task_at_address(*self._target, task, self._work.shared) if self._target else nullcontext(task)

    def _done_here(self, task: Task) -> Outcome:
        if is_done(task.part):
            return read_outcome(task.part)
        if self._do is None:
            self._do = self._work.open(self._worker, self._threads)
        with locked_file(task.part):
            return read_outcome(task.part) if is_done(task.part) else _computed(self._do, task)


def _computed(do: Do, task: Task) -> Outcome:
    """Compute a task and store its outcome, with the warnings that it issued."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        outcome = do(task)
    texts = dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, AudioWarning))
    outcome = replace(outcome, warnings=tuple(texts))
    write_outcome(task.part, outcome)
    return outcome


def _enter(place: str) -> None:
    """Use the working directory of the user's process."""
    if not Path(place).is_dir():
        raise ConfigError(
            f"a worker has no folder {place}, which is the working directory of the first process; make it there, or"
            " start the command in a folder that every machine has"
        )
    os.chdir(place)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent to another process; an unexpected one carries its traceback as a note."""
    if not isinstance(error, UnheardError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    plain = error.with_traceback(None)
    plain.__cause__ = plain.__context__ = None
    try:
        pickle.loads(pickle.dumps(plain))
    except Exception:
        return RuntimeError(f"{type(error).__name__} in a worker: {error}\n{''.join(error.__notes__)}")
    return plain
