"""Jobs on Ray whose output is at an address: every worker uploads what it computes, and the driver joins it.

    driver   copy outcomes and an earlier output -> upload the plan -> Ray -> copy all parts -> join -> upload
    worker   copy what all tasks share -> do a task in a local place -> upload its part -> upload its outcome

The address holds everything that is done. So a job is continued after its driver died, also on another machine. Every
driver writes its id to the file ``driver`` of the parts. Workers of an earlier driver upload nothing then.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from unheard.addresses import scheme_of
from unheard.errors import ConfigError, RemoteError, shown
from unheard.jobs.addressed_job import AddressedJob
from unheard.jobs.plan import PLAN, Task
from unheard.outputs import WAYS, locked_file
from unheard.remote.access import attempt
from unheard.remote.listing import exists, is_folder
from unheard.remote.writing import naming, relocated

Result = TypeVar("Result")

DRIVER = "driver"

_current: ContextVar[RayJob | None] = ContextVar("_current", default=None)


def ray_job_at(
    out: str | Path, verb: str, write: Callable[[Path], Result], *, resume: bool = True, overwrite: bool = False
) -> Result:
    """Do a job on Ray for an output at an address.

    Parameters
    ----------
    out : path
        The address.
    verb : str
        Each verb has a local place of its own.
    write : callable
        Does the job for a local output, through `unheard.jobs.running.do_tasks`.
    resume, overwrite : bool
        Continue the job at the address, or replace it.

    Raises
    ------
    ConfigError
        When the address has an output, or parts of a job, that is neither continued nor replaced; or parts of another
        job.
    RemoteError
        When the address cannot be read or written. What is uploaded stays, and is continued.
    """
    job = RayJob(out, f"{verb} on Ray", overwrite)
    if scheme_of(job.address) == "memory":
        raise ConfigError(
            f"{shown(job.address)} is in the memory of one process, and the workers of Ray are others; give the address"
            " of a store, or a local path"
        )
    place = job.output.folder
    with _locked(job):
        _clear(place.parent)  # what a killed driver left: all of it is at the address, too
        try:
            _copy(job, resume, overwrite)
            token = _current.set(job)
            try:
                result = write(place)
            finally:
                _current.reset(token)
            job.upload_joined()
        except RemoteError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise  # there is no such bucket, so nothing is kept
            raise RemoteError(
                f"{error}; what is done is kept at {shown(job.address)}: give the same command again, with --resume"
            ) from error
        except BaseException:
            if job.published and not job.tasks.folder.exists():
                job.delete_parts()  # nothing could be read
            raise
        finally:
            _clear(place.parent)
    return relocated(result, place, out)


class RayJob(AddressedJob):
    """A job at an address as its driver sees it.

    Parameters
    ----------
    out, name
        As of `AddressedJob`.
    overwrite : bool
        The parts of an earlier job are deleted when this one begins.
    """

    def __init__(self, out: str | Path, name: str, overwrite: bool = False) -> None:
        super().__init__(out, name)
        self.overwrite, self.published, self.driver = overwrite, False, uuid4().hex


def addressed_job(folder: Path) -> RayJob | None:
    """Return the job at an address whose parts have their local copy in a folder; None for other folders."""
    job = _current.get()
    return job if job is not None and job.tasks.folder == folder else None


@contextmanager
def done_by_workers(job: RayJob) -> Iterator[None]:
    """Upload the plan of a job and what its tasks share; after the block, copy what the workers have uploaded.

    Raises
    ------
    ConfigError
        When the address has parts of another job, or another driver has taken over the job.
    RemoteError
        When the address cannot be read or written.
    """
    if job.overwrite:
        job.delete_parts()
    job.refuse_another_plan(job.part_names())
    (job.tasks.folder / DRIVER).write_text(job.driver, encoding="utf-8")
    job.published = True
    job.upload_marks()
    job.upload_parts()
    earlier = frozenset(job.output_names())
    yield
    refuse_another_driver(job, job.driver)
    job.tasks.fetch()
    if is_folder(job.address):
        job.output.fetch(lambda name: name not in earlier)


def refuse_another_driver(job: AddressedJob, driver: str) -> None:
    """Refuse to continue a job that another driver continues, replaces or has joined.

    Raises
    ------
    ConfigError
        Naming the address.
    """
    address = f"{job.tasks.address}/{DRIVER}"
    try:  # not through the cache of files
        found = attempt(address, "read", lambda system, place: bytes(system.cat_file(place))).decode()
    except FileNotFoundError:
        found = ""
    if found != driver:
        raise ConfigError(
            f"{shown(job.address)}: another process has taken over or completed this job; see the output there, or"
            " give the command again with --resume when that process has ended"
        )


@contextmanager
def task_at_address(address: str, driver: str, task: Task, shared: tuple[str, ...]) -> Iterator[Task]:
    """Yield a task whose part and output are in a local place of this worker, and upload what was written.

    Parameters
    ----------
    address : str
        Of the output.
    driver : str
        Id of the driver of the job.
    shared : tuple of str
        Names of files of the output that the task reads.

    Raises
    ------
    ConfigError
        When another driver has taken over the job.
    RemoteError
        When the address cannot be read or written.
    """
    job = AddressedJob(address, f"{task.number} on Ray")
    place, parts, own = job.output.folder, job.tasks.folder, f"{task.part.name}.json"
    with _locked(job):
        refuse_another_driver(job, driver)
        mark = parts / f".{DRIVER}"
        if not mark.exists() or mark.read_text(encoding="utf-8") != driver:
            _clear(place.parent)  # of an earlier attempt: its sounds may have changed
        try:
            parts.mkdir(exist_ok=True)
            mark.write_text(driver, encoding="utf-8")
            job.tasks.fetch(lambda name: name == own)
            if shared:
                job.output.fetch(lambda name: name in shared)
            yield replace(task, part=parts / task.part.name)
            refuse_another_driver(job, driver)
            job.upload_parts()
        finally:
            _clear(place.parent)  # a process that is killed leaves its rows to the one that replaces it


@contextmanager
def _locked(job: AddressedJob) -> Iterator[None]:
    """Hold the lock of the local place of a job, and delete its folder if it is empty afterwards."""
    place = job.output.folder.parent
    lock = place.with_name(f"{place.name}-job")
    try:
        with naming(lock, job.address), job.naming(), locked_file(lock):
            yield
    finally:
        with suppress(OSError):  # it is not empty, or another process has deleted it
            place.rmdir()


def _copy(job: RayJob, resume: bool, overwrite: bool) -> None:
    """Copy the outcomes of earlier tasks and an earlier output, as far as the job continues or replaces them."""
    there = exists(job.address)
    if there and not (resume or overwrite):
        raise ConfigError(f"{shown(job.address)} exists; {WAYS}")
    if not overwrite and PLAN not in job.fetch_outcomes():
        job.delete_parts()  # of late workers
    if there:
        job.output.fetch_output()


def _clear(folder: Path) -> None:
    """Delete what is in a folder, apart from lock files; make the folder if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(".lock"):
            path.unlink(missing_ok=True)
