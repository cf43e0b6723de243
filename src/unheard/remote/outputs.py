"""Outputs at addresses: written to a local place first, then uploaded.

If an upload fails, the local output is kept, and the same command continues with it.
"""

from __future__ import annotations

import functools
import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from unheard.addresses import address_of
from unheard.errors import ConfigError, RemoteError, shown
from unheard.outputs import WAYS, Kind, refuse_existing, refuse_other_kind
from unheard.remote.listing import exists, is_file, is_folder
from unheard.remote.mirror import Mirror
from unheard.remote.writing import naming, relocated, upload_folder, working_place

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def uploaded(*outputs: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Return a decorator of a verb whose outputs may be at addresses.

    The verb writes to a local place, as it writes to any local path, and its output is uploaded when it ends. A folder
    that is there is fetched first, so that ``overwrite`` keeps or refuses the same files as in a local folder. A verb
    without ``overwrite`` completes what is there.

    What an earlier call of the same verb left in the local place, because it or its upload was interrupted, belongs to
    the output: a verb with ``resume`` continues it as a local one, others overwrite it.

    Parameters
    ----------
    outputs : str
        Names of the parameters with a path of an output.

    Raises
    ------
    ConfigError
        When there is something at the address and neither ``overwrite`` nor ``resume`` is given.
    RemoteError
        As `local_output`.
    """

    def decorate(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(verb)

        @functools.wraps(verb)
        def uploading(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            values = given.arguments
            paths = {name: values[name] for name in outputs if values[name] is not None}
            remote = {name: path for name, path in paths.items() if address_of(path)}
            if not remote:
                return verb(*args, **kwargs)
            overwrite, resume = values.get("overwrite", True), values.get("resume", "overwrite" not in values)
            with ExitStack() as places:
                for path in paths.values():
                    if not address_of(path) and not resume:
                        refuse_existing(path, overwrite)
                for name, path in remote.items():
                    fetched = resume or (overwrite and is_folder(path))
                    place = local_output(path, overwrite=overwrite, resume=fetched, verb=verb.__name__)
                    values[name] = places.enter_context(place)
                    if "overwrite" in values and "resume" not in values:
                        values["overwrite"] = values["overwrite"] or values[name].exists()
                result = verb(*given.args, **given.kwargs)
            for name, path in remote.items():
                result = relocated(result, values[name], path)
            return result

        return uploading

    return decorate


@contextmanager
def local_output(
    out: str | Path, *, kind: Kind | None = None, overwrite: bool = False, resume: bool = False, verb: str = ""
) -> Iterator[Path]:
    """Yield the place where an output is written. For an address it is uploaded when the block ends without an error.

    Parameters
    ----------
    out : path
        A file or a folder; a local one is yielded as it is.
    kind : {"file", "folder"}, optional
        What is written.
    overwrite : bool
        Replace what is there.
    resume : bool
        Continue: what is at the address is copied to the local place first. A file that is in both stays the local one,
        which an interrupted job or upload left.
    verb : str
        Each verb has a local place of its own.

    Raises
    ------
    ConfigError
        When the output exists and neither ``overwrite`` nor ``resume`` is given, or it is of another kind.
    RemoteError
        When the address cannot be read or written. The local files are kept.
    """
    address = address_of(out).rstrip("/")
    if not address:
        refuse_existing(out, overwrite or resume, kind=kind)
        yield Path(out)
        return
    place = working_place(address, verb)
    mirror = Mirror(place, address)
    there = exists(address)
    if kind is not None:
        refuse_other_kind_at(address, kind)
    if there and not (overwrite or resume):
        raise ConfigError(f"{shown(address)} exists; {WAYS}")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if there and resume:
            mirror.fetch_output()
        with naming(place, address):
            yield place
    except BaseException:
        mirror.drop_unchanged()  # what the job itself wrote stays
        with suppress(OSError):
            place.parent.rmdir()  # nothing was written
        raise
    try:
        upload_output(mirror)
    except RemoteError as error:
        raise RemoteError(
            f"{error}; the finished output is kept in {shown(place)}: copy it, or give the same command again (with"
            " --resume, if it has this option)"
        ) from error
    shutil.rmtree(place.parent, ignore_errors=True)


def refuse_other_kind_at(out: str | Path, kind: Kind) -> None:
    """Do the same as `unheard.outputs.refuse_other_kind`, also at an address.

    Raises
    ------
    ConfigError
        As there.
    """
    refuse_other_kind(out, kind, "folder" if is_folder(out) else "file" if is_file(out) else kind)


def upload_output(mirror: Mirror) -> None:
    """Upload an output: a folder, or a file after the files that were written next to it.

    Raises
    ------
    RemoteError
        When it cannot be written.
    """
    place, parent = mirror.folder, mirror.address.rpartition("/")[0]
    if place.is_dir():
        mirror.update()
    files = (path for path in place.parent.rglob("*") if path.is_file() and not path.is_relative_to(place))
    names = (path.relative_to(place.parent).as_posix() for path in files)
    visible = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    upload_folder(place.parent, parent, visible)
    if place.is_file():
        upload_folder(place.parent, parent, [place.name])
