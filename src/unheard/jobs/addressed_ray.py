"""Jobs on Ray whose output is at an address: every worker uploads what it computes, and the driver joins it.

    driver   copy outcomes and an earlier output -> upload the plan -> Ray -> copy all parts -> join -> upload
    worker   copy what all tasks share -> do a task in a local place -> upload its part -> upload its outcome

The address holds everything that is done. So a job is continued after its driver died, also on another machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from unheard.errors import ConfigError, shown
from unheard.jobs.addressed_job import AddressedJob
from unheard.jobs.plan import PLAN, Task
from unheard.outputs import WAYS, locked_file
from unheard.remote.listing import exists, is_folder
from unheard.remote.outputs import fetch_output
from unheard.remote.writing import naming, relocated

Result = TypeVar("Result")

_current: ContextVar[AddressedJob | None] = ContextVar("_current", default=None)


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
    job = AddressedJob(out, f"{verb} on Ray")
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
        finally:
            _clear(place.parent)
    return relocated(result, place, out)


def addressed_job(folder: Path) -> AddressedJob | None:
    """Return the job at an address whose parts have their local copy in a folder; None for other folders."""
    job = _current.get()
    return job if job is not None and job.tasks.folder == folder else None


@contextmanager
def done_by_workers(job: AddressedJob) -> Iterator[None]:
    """Upload the plan of a job and what its tasks share; after the block, copy what the workers have uploaded.

    Raises
    ------
    ConfigError
        When the address has parts of another job.
    RemoteError
        When the address cannot be read or written.
    """
    job.refuse_another_plan()
    job.upload_parts()
    earlier = frozenset(job.output_names())
    yield
    job.tasks.fetch()
    if is_folder(job.address):
        job.output.fetch(lambda name: name not in earlier)


@contextmanager
def task_at_address(address: str, task: Task, shared: tuple[str, ...]) -> Iterator[Task]:
    """Yield a task whose part and output are in a local place of this worker, and upload what was written.

    Parameters
    ----------
    address : str
        Of the output.
    shared : tuple of str
        Names of files of the output that the task reads.

    Raises
    ------
    RemoteError
        When the address cannot be read or written.
    """
    job = AddressedJob(address, f"{task.number} on Ray")
    place, parts, own = job.output.folder, job.tasks.folder, f"{task.part.name}.json"
    with _locked(job):
        if (parts / PLAN).exists() and not job.has_local_plan():
            _clear(place.parent)  # of another job
        job.tasks.fetch(lambda name: name in (PLAN, own))
        if shared:
            job.output.fetch(lambda name: name in shared)
        yield replace(task, part=parts / task.part.name)
        job.upload_parts()
        _clear(place.parent)


@contextmanager
def _locked(job: AddressedJob) -> Iterator[None]:
    """Hold the lock of the local place of a job, and delete its folder if it is empty afterwards."""
    lock = job.output.folder.with_name("job")
    try:
        with naming(lock, job.address), job.naming(), locked_file(lock):
            yield
    finally:
        with suppress(OSError):  # it is not empty, or another process has deleted it
            job.output.folder.parent.rmdir()


def _copy(job: AddressedJob, resume: bool, overwrite: bool) -> None:
    """Copy the outcomes of earlier tasks and an earlier output, as far as the job continues or replaces them."""
    there = exists(job.address)
    if there and not (resume or overwrite):
        raise ConfigError(f"{shown(job.address)} exists; {WAYS}")
    if overwrite:
        job.delete_parts()
    job.tasks.fetch(lambda name: name.endswith(".json") or not name.startswith("part-"))
    if there:
        fetch_output(job.output)


def _clear(folder: Path) -> None:
    """Delete what is in a folder, apart from lock files."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(".lock"):
            path.unlink(missing_ok=True)
