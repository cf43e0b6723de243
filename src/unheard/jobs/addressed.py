"""Tasks of an array whose output is at an address: each machine writes locally, the address holds what is done.

    s3://BUCKET/.NAME.tasks   plan, parts and outcomes, as next to a local output
    s3://BUCKET/NAME          shards of tasks that are done, or the joined output

A task copies the plan and the outcomes of others, and their parts if no other task is missing: then it joins them.
Otherwise it uploads its part, and then its outcome. If no task is missing afterwards, because several ended at the same
time, it copies the parts and joins them. Stores have no locks: several machines may join the same parts, to the same
output.
"""

from __future__ import annotations

import functools
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from unheard.addresses import address_of
from unheard.errors import ConfigError, RemoteError, shown, warn_job
from unheard.jobs.plan import PLAN, read_plan, tasks_folder
from unheard.outputs import locked_file
from unheard.remote.access import file_system
from unheard.remote.listing import exists, files_below, is_file
from unheard.remote.mirror import Mirror
from unheard.remote.outputs import fetch_output, upload_output
from unheard.remote.reading import open_file
from unheard.remote.writing import delete, naming, relocated, working_place

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def tasks_at_addresses(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a verb whose parameter ``task`` may be given for an ``out`` at an address."""
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def writing(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given = signature.bind(*args, **kwargs)
        out, task = given.arguments.get("out"), given.arguments.get("task")
        if out is None or task is None:
            refuse_parts_at(out or "")
            return verb(*args, **kwargs)

        def write(place: Path) -> Result:
            given.arguments["out"] = place
            return verb(*given.args, **given.kwargs)

        return array_task_at(out, task, verb.__name__, write)

    return writing


def array_task_at(out: str | Path, task: str | None, verb: str, write: Callable[[Path], Result]) -> Result:
    """Do one task of an array for an output at an address, and join the parts if it was the last one.

    Parameters
    ----------
    out : path
        A local one is written as it is.
    task : str, optional
        ``I/N``. None: the output is written as it is.
    verb : str
        Each verb and task has a local place of its own.
    write : callable
        Does the task for a local output, as `do_array_task`. It is called again, to join the parts, if no task is
        missing.

    Raises
    ------
    ConfigError
        When the address has parts of another job, or of tasks and none is given.
    RemoteError
        When the address cannot be read or written. The local files are kept.
    """
    if task is None or not address_of(out):
        refuse_parts_at(out)
        return write(Path(out))
    address, parts = address_of(out).rstrip("/"), _parts_of(out)
    place = working_place(address, f"{verb} {task}")
    output, tasks = Mirror(place, address), Mirror(place.with_name(parts.rpartition("/")[2]), parts)
    lock, own = place.with_name("task"), f"part-{task.partition('/')[0].zfill(6)}.json"
    with naming(lock, f"task {task} of {address}"), naming(tasks.folder, parts), naming(place, address):
        with locked_file(lock):
            kept = (tasks.folder / own).exists()
            result = _run_task(output, tasks, own, write)
            if kept:
                warn_job(f"task {task} of {address}: used what an earlier attempt computed before its upload failed")
        shutil.rmtree(place.parent, ignore_errors=True)
    return relocated(result, place, out)


def refuse_parts_at(out: str | Path) -> None:
    """Refuse an address with parts of an array whose output is not written in tasks now.

    Raises
    ------
    ConfigError
        Naming the folder of the parts, or when the scheme is unknown.
    """
    if not address_of(out):
        return
    file_system(address_of(out))  # refuses an unknown scheme by the address that was given
    if _names(_parts_of(out)):
        raise ConfigError(
            f"{shown(_parts_of(out))} has parts of tasks; complete the output with --task, choose another -o, or delete"
            " that folder to start again"
        )


def _parts_of(out: str | Path) -> str:
    """Return the address of the folder of the parts."""
    parent, _, name = address_of(out).rstrip("/").rpartition("/")
    return f"{parent}/{tasks_folder(Path(name)).name}"


def _run_task(output: Mirror, tasks: Mirror, own: str, write: Callable[[Path], Result]) -> Result:
    """Do the task with the outcome ``own``, join the parts if no other is missing, and upload what is new."""
    if output.folder.is_file():  # its upload failed: it is joined again
        output.folder.unlink()
    try:
        try:
            complete = _copy(output, tasks, own)
        except RemoteError:
            if _complete(_names(tasks.address), tasks, own):
                raise
            tasks.drop_unchanged()
            complete = _copy(output, tasks, own)  # of the joined output
        while True:
            planned = PLAN in _names(tasks.address)
            result = write(output.folder)
            if planned and PLAN not in _names(tasks.address):
                # with the part of another copy of this task
                warn_job(f"{shown(output.address)}: another machine has joined the parts; nothing was uploaded")
                return result
            finished = _upload_results(output, tasks, complete)
            try:
                complete = not finished and _copy(output, tasks, own)
            except RemoteError:
                if _complete(_names(tasks.address), tasks, own):
                    raise
                complete = False  # another machine has joined the parts, and deletes them
            if not complete:
                return result
    except BaseException:
        tasks.drop_unchanged()  # what the task itself computed stays
        raise


def _copy(output: Mirror, tasks: Mirror, own: str) -> bool:
    """Copy what a task needs: the output if it is complete, plan and outcomes, and all parts if no other is missing.

    Return whether no other task is missing.
    """
    names = _names(tasks.address)
    tasks.fetch(lambda name: name.endswith(".json"))
    _refuse_another_plan(names, tasks)
    complete = _complete(names, tasks, own)
    if complete:
        tasks.fetch()
    if exists(output.address) and (complete or PLAN not in names or is_file(output.address)):
        fetch_output(output)
    return complete


def _upload_results(output: Mirror, tasks: Mirror, complete: bool) -> bool:
    """Upload the output if it is joined, or else what the task has computed. Return whether it is joined."""
    joined = complete or not tasks.folder.exists()
    try:
        if joined:
            upload_output(output)
            # outcomes before their parts, and the plan last: what a killed process leaves belongs to a plan
            for name in sorted(_names(tasks.address), key=lambda name: (name == PLAN, name)):
                delete(f"{tasks.address}/{name}")
            return True
        _refuse_another_plan(_names(tasks.address), tasks)
        if output.folder.is_dir():
            output.update(delete_gone=False)
        tasks.update(delete_gone=False)
    except RemoteError as error:
        kept = shown(output.folder.parent)
        raise RemoteError(f"{error}; what is computed is kept in {kept}: give the same command again") from error
    return False


def _refuse_another_plan(names: list[str], tasks: Mirror) -> None:
    """Refuse parts of another job: several tasks may have written a plan, and a local one may be of an earlier job."""
    if PLAN not in names:
        return
    with open_file(f"{tasks.address}/{PLAN}") as stored:
        same = stored.read() == (tasks.folder / PLAN).read_bytes()
    if not same:
        raise ConfigError(
            f"{shown(tasks.address)} has parts of another job than {shown(tasks.folder.parent)}; choose another -o, or"
            " delete one of these folders"
        )


def _complete(names: list[str], tasks: Mirror, own: str) -> bool:
    """Return whether a job has the outcomes of all tasks but this one."""
    plan = read_plan(tasks.folder) if PLAN in names else None
    outcomes = {own, *(name for name in names if name.endswith(".json") and name != PLAN)}
    return plan is not None and len(outcomes) == plan["tasks"]


def _names(address: str) -> list[str]:
    return list(files_below(address)) if exists(address) else []
