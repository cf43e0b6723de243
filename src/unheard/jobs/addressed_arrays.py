"""Tasks of an array whose output is at an address: each machine writes locally, and uploads what is done.

A task copies the plan and the outcomes of others, and their parts if no other task is missing: then it joins them.
Otherwise it uploads its part, and then its outcome. If no task is missing afterwards, because several ended at the same
time, it copies the parts and joins them. Stores have no locks: several machines may join the same parts, to the same
output.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unheard.errors import RemoteError, shown, warn_job
from unheard.jobs.addressed_job import AddressedJob
from unheard.jobs.plan import PLAN, read_plan
from unheard.outputs import locked_file
from unheard.remote.listing import exists, is_file
from unheard.remote.writing import naming, relocated

Result = TypeVar("Result")


def array_task_at(out: str | Path, task: str, verb: str, write: Callable[[Path], Result]) -> Result:
    """Do one task of an array for an output at an address, and join the parts if it was the last one.

    Parameters
    ----------
    out : path
        The address.
    task : str
        ``I/N``.
    verb : str
        Each verb and task has a local place of its own.
    write : callable
        Does the task for a local output, as `do_array_task`. It is called again, to join the parts, if no task is
        missing.

    Raises
    ------
    ConfigError
        When the address has parts of another job.
    RemoteError
        When the address cannot be read or written. The local files are kept.
    """
    job = AddressedJob(out, f"{verb} {task}")
    place = job.output.folder
    lock, own = place.parent.with_name(f"{place.parent.name}-task"), f"part-{task.partition('/')[0].zfill(6)}.json"
    with naming(lock, f"task {task} of {job.address}"), job.naming():
        with locked_file(lock):
            kept = (job.tasks.folder / own).exists()
            result = _run_task(job, own, write)
            if kept:
                warn_job(
                    f"task {task} of {job.address}: used what an earlier attempt computed before its upload failed"
                )
        shutil.rmtree(place.parent, ignore_errors=True)
    return relocated(result, place, out)


def _run_task(job: AddressedJob, own: str, write: Callable[[Path], Result]) -> Result:
    """Do the task with the outcome ``own``, join the parts if no other is missing, and upload what is new."""
    output, tasks = job.output, job.tasks
    if output.folder.is_file():  # its upload failed: it is joined again
        output.folder.unlink()
    try:
        try:
            complete = _copy(job, own)
        except RemoteError:
            if _complete(job.part_names(), job, own):
                raise
            tasks.drop_unchanged()
            complete = _copy(job, own)  # of the joined output
        while True:
            planned = PLAN in job.part_names()
            result = write(output.folder)
            if planned and PLAN not in job.part_names():
                # with the part of another copy of this task
                warn_job(f"{shown(output.address)}: another machine has joined the parts; nothing was uploaded")
                return result
            finished = _upload_results(job, complete)
            try:
                complete = not finished and _copy(job, own)
            except RemoteError:
                if _complete(job.part_names(), job, own):
                    raise
                complete = False  # another machine has joined the parts, and deletes them
            if not complete:
                return result
    except BaseException:
        output.drop_unchanged()  # what the task itself computed stays
        tasks.drop_unchanged()
        raise


def _copy(job: AddressedJob, own: str) -> bool:
    """Copy what a task needs: the output if it is complete, plan and outcomes, and all parts if no other is missing.

    Return whether no other task is missing.
    """
    names = job.fetch_outcomes()
    job.refuse_another_plan(names)
    complete = _complete(names, job, own)
    if complete:
        job.tasks.fetch()
    if exists(job.address) and (complete or PLAN not in names or is_file(job.address)):
        job.output.fetch_output()
    return complete


def _upload_results(job: AddressedJob, complete: bool) -> bool:
    """Upload the output if it is joined, or else what the task has computed. Return whether it is joined."""
    joined = complete or not job.tasks.folder.exists()
    try:
        if joined:
            job.upload_joined()
            return True
        job.refuse_another_plan(job.part_names())
        job.upload_parts()
    except RemoteError as error:
        kept = shown(job.output.folder.parent)
        raise RemoteError(f"{error}; what is computed is kept in {kept}: give the same command again") from error
    return False


def _complete(names: list[str], job: AddressedJob, own: str) -> bool:
    """Return whether a job has the outcomes of all tasks but this one."""
    plan = read_plan(job.tasks.folder) if PLAN in names else None
    outcomes = {own, *(name for name in names if name.endswith(".json") and name != PLAN)}
    return plan is not None and len(outcomes) == plan["tasks"]
