"""Workers that are actors of a Ray cluster.

Ray Core is used, not Ray Data: a part is written by the function that local processes call, so a datasink would be a
second way to write it. Ray Data's own checkpoints doubled rows after the driver was killed (302 rows of 241 files, Ray
2.60). An actor keeps its model. Ray's own retries are off, because `unheard.jobs.supervise` counts lost workers.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unheard.errors import UnheardError, require, warn_job
from unheard.jobs.plan import Outcome, Task
from unheard.jobs.session import Failure, Lost, Session, Work
from unheard.read_ahead import core_count

START_SECONDS = 180
"""Time in which Ray starts on this machine; its default of 15 s is too short on a busy one (our measurement)."""

CONNECT_SECONDS = 10.0
"""Time in which a cluster accepts a connection; Ray itself tries for minutes (our choice)."""

STORE_BYTES = 100 * 2**20
"""Memory for objects of Ray on this machine; parts go to disk, so tasks and outcomes are all it holds (our choice)."""


class RayWorkers:
    """Actors, each with one core or one GPU. A lost one is replaced, on any machine of the cluster.

    Parameters
    ----------
    work : Work
    size : int
        Number of actors.
    gpus : float
        GPUs for each.
    target : (str, str), optional
        Address of the output, to which they upload their parts, and id of the driver. None: they share a folder.
    """

    def __init__(self, work: Work, size: int, gpus: float, target: tuple[str, str] | None) -> None:
        import ray

        self.size, self._work, self._target, self._ray = size, work, target, ray
        self._actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Session)
        self._free = list(range(size))
        self._idle: list[tuple[int, Any]] = []
        self._busy: dict[Any, tuple[int, Any, Task]] = {}

    def give(self, task: Task) -> None:
        """Start a task in an idle actor, or in a new one."""
        if self._idle:
            number, actor = self._idle.pop()
        else:
            number = self._free.pop(0)
            actor = self._actor.remote(self._work, number, 1, str(Path.cwd()), self._target)
        self._busy[actor.do.remote(task)] = number, actor, task

    def wait(self) -> tuple[Task, Outcome | Failure | Lost]:
        """Wait until an actor has done its task, or ended."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        number, actor, task = self._busy.pop(ready[0])
        try:
            result: Outcome | Failure = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)
            self._free.append(number)
            return task, Lost(_reason(error))
        self._idle.append((number, actor))
        return task, result

    def close(self) -> None:
        """End all actors; rows of the last half minute of a task that is not done are computed again."""
        for actor in (*(actor for _, actor in self._idle), *(actor for _, actor, _ in self._busy.values())):
            self._ray.kill(actor)
        self._idle, self._busy = [], {}


def _reason(error: Exception) -> str:
    """Return one line of the long texts of Ray."""
    text = " ".join(str(error).split())
    return f"Ray reports {type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}"


@contextmanager
def ray_workers(
    work: Work, processes: int | None, items: int, target: tuple[str, str] | None = None
) -> Iterator[RayWorkers]:
    """Yield the actors of a job: on the cluster of ``RAY_ADDRESS``, or on a new one on this machine.

    Parameters
    ----------
    processes : int, optional
        Number of actors. Default: one for each GPU of the cluster, or for each core if it has no GPU.
    items : int
        There are at most as many actors.
    target : (str, str), optional
        As of `RayWorkers`.

    Raises
    ------
    UnheardError
        When Ray is not installed, or does not start.
    """
    require("ray", "ray")
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(ray, processes)
    try:
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        size = min(items, processes or gpus or cores)
        if size > cores:
            warn_job(f"the Ray cluster has {cores} cores for {size} workers; some wait until others end")
        workers = RayWorkers(work, size, gpus=min(1.0, gpus / size) if gpus else 0.0, target=target)
        try:
            yield workers
        finally:
            workers.close()
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, processes: int | None) -> None:
    """Connect to a cluster, or start one on this machine."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_SECONDS))
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    address = os.environ.get("RAY_ADDRESS", "")
    refuse_unreachable(address)
    try:
        if address:
            ray.init(address=address, **quiet)
        else:  # not "auto": that finds the Ray of another command, too, which ends with that command
            ray.init(
                address="local",
                num_cpus=processes or core_count(),
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except Exception as error:
        text = " ".join(str(error).split())
        raise UnheardError(
            f"Ray did not start or connect ({type(error).__name__}: {text[:300]}); check RAY_ADDRESS and ray"
            " status, or use --processes without --engine ray"
        ) from error


def refuse_unreachable(address: str) -> None:
    """Refuse an address ``HOST:PORT`` or ``ray://HOST:PORT`` at which nothing accepts a connection; others are ignored.

    Raises
    ------
    UnheardError
        When nothing accepts a connection there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UnheardError(
            f"no Ray cluster accepts a connection at {address} ({error}); correct RAY_ADDRESS, or remove it to start"
            " Ray on this machine"
        ) from error
