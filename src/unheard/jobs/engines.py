"""How a job is spread over processes: the choice of the user, checked, and the workers of an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from unheard.errors import ConfigError
from unheard.jobs.local import LocalWorkers
from unheard.jobs.session import Work
from unheard.jobs.supervise import Workers

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Spread:
    """How a job is spread over processes; by default it is not.

    Parameters
    ----------
    engine : {"local", "ray"}
        Processes of this machine, or of a Ray cluster.
    processes : int, optional
        Number of processes. None: with Ray one for each GPU of the cluster, or each core if it has none; otherwise the
        process of the caller.
    task : str, optional
        ``I/N``: only the I-th of N tasks, in the process of the caller.
    """

    engine: str = "local"
    processes: int | None = None
    task: str | None = None


def worker_count(spread: Spread, items: int, unit: str) -> int | None:
    """Return the number of processes that the user asks for; None: the default of the engine.

    Raises
    ------
    ConfigError
        When the engine does not exist, the number is below 1 or above that of the items, or --task is given, too.
    """
    if spread.engine not in get_args(Engine):
        raise ConfigError(f"there is no engine {spread.engine!r}; available: {', '.join(get_args(Engine))}")
    if spread.task is not None and (spread.engine != "local" or spread.processes is not None):
        raise ConfigError("--task does one task in this process; leave --engine and --processes out")
    if spread.processes is None:
        return None
    if spread.processes < 1:
        raise ConfigError(f"--processes must be at least 1; got {spread.processes}")
    if spread.processes > items:
        raise ConfigError(
            f"there are {spread.processes} processes for {items} {unit}; give --processes {items} or fewer"
        )
    return spread.processes


def refuse_overwrite(spread: Spread, overwrite: bool) -> None:
    """Refuse to replace an output by one task of several, which would delete what the others wrote.

    Raises
    ------
    ConfigError
        When ``--task`` and ``--overwrite`` are given.
    """
    if spread.task is not None and overwrite:
        raise ConfigError(
            "--task continues what the other tasks wrote; leave --overwrite out, and delete the old output"
        )


def array_task(spread: Spread, items: int, unit: str) -> tuple[int, int]:
    """Return the number of the task and the number of tasks of ``--task I/N``.

    Raises
    ------
    ConfigError
        When the text has another form, or there are more tasks than items.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", spread.task or "")
    number, tasks = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= tasks:
        raise ConfigError(f"--task must be I/N with I from 1 to N, such as 3/100; got {spread.task!r}")
    if tasks > items:
        raise ConfigError(f"there are {tasks} tasks for {items} {unit}; give --task I/{items} or fewer tasks")
    return number, tasks


@contextmanager
def open_workers(spread: Spread, work: Work, items: int, target: tuple[str, str] | None = None) -> Iterator[Workers]:
    """Yield the workers of an engine, at most one for each item, and end them.

    Parameters
    ----------
    target : (str, str), optional
        Address of the output, to which the workers of Ray upload their parts, and id of the driver. None: they share a
        folder.

    Raises
    ------
    UnheardError
        When Ray is not installed or does not start.
    """
    if spread.engine == "ray":
        from unheard.jobs.ray_workers import ray_workers

        with ray_workers(work, spread.processes, items, target) as workers:
            yield workers
        return
    local = LocalWorkers(work, min(items, spread.processes or 1))
    try:
        yield local
    finally:
        local.close()
