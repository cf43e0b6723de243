"""Jobs in tasks whose output is at an address: the choice between one task of an array, Ray, and a local job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from unheard.addresses import address_of
from unheard.jobs.addressed_arrays import array_task_at
from unheard.jobs.addressed_job import refuse_parts_at
from unheard.jobs.addressed_ray import ray_job_at
from unheard.jobs.engines import Spread
from unheard.remote.outputs import local_output
from unheard.remote.writing import relocated

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def tasks_at_addresses(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a verb whose parameters ``task`` and ``engine`` may be given for an ``out`` at an address.

    A verb without the parameter ``resume`` completes what is there.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def writing(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        values = given.arguments
        out, task, ray = values["out"], values["task"], values["engine"] == "ray"

        def write(place: Path) -> Result:
            values["out"] = place
            return verb(*given.args, **given.kwargs)

        if out is None or not address_of(out) or not (ray or task):
            refuse_parts_at(out or "")
            return verb(*args, **kwargs)
        policy = {"resume": values.get("resume", True), "overwrite": values.get("overwrite", False)}
        return in_tasks_at(out, Spread(values["engine"], task=task), verb.__name__, write, **policy)

    return writing


def in_tasks_at(
    out: str | Path,
    spread: Spread,
    verb: str,
    write: Callable[[Path], Result],
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Result:
    """Write an output in tasks, also at an address.

    Parameters
    ----------
    out : path
        A local one is written as it is.
    spread : Spread
        How the job is spread over processes.
    verb : str
        Each verb has a local place of its own.
    write : callable
        Writes a local output in tasks.
    resume, overwrite : bool
        Continue what is at the address, or replace it.

    Raises
    ------
    ConfigError
        When the output exists, and is neither continued nor replaced, or the address has parts of another job.
    RemoteError
        When the address cannot be read or written. What is computed is kept.
    """
    if not address_of(out):
        return write(Path(out))
    if spread.task is not None:
        return array_task_at(out, spread.task, verb, write)
    if spread.engine == "ray":
        return ray_job_at(out, verb, write, resume=resume, overwrite=overwrite)
    refuse_parts_at(out)
    with local_output(out, resume=resume, overwrite=overwrite, verb=verb) as place:
        result = write(place)
    return relocated(result, place, out)
