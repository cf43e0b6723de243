"""Outputs at addresses: written to a local folder first, then uploaded, file by file.

A store replaces a file at once when its upload is complete, so that a reader never sees a part of it. The sizes are
compared afterwards. If an upload fails, the local files are kept, and the same command continues with them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from unheard.addresses import address_of, scheme_of
from unheard.errors import ConfigError, RemoteError, UnheardError, shown
from unheard.outputs import WAYS
from unheard.remote.access import attempt
from unheard.remote.cache import cache_folder
from unheard.remote.listing import entry_of, exists, files_below, forget, is_file
from unheard.remote.reading import fetch

Result = TypeVar("Result")

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "oss", "oci", "memory"})
"""Schemes of stores in which an upload replaces a file at once."""

LAST = ("dataset.json", "targets.json", "state.json", "config.json", "finished.json")
"""Names of files that make a folder complete; they are uploaded after the others."""


def upload(file: Path, address: str) -> None:
    """Copy a local file to an address, where it appears when it is complete.

    Raises
    ------
    RemoteError
        When it cannot be written, or has another size afterwards.
    """

    def put(system: Any, place: str) -> None:
        target = place
        if scheme_of(address) not in OBJECT_STORES:
            parent, _, name = place.rpartition("/")
            target = f"{parent}/.{name}.part"
            system.makedirs(parent, exist_ok=True)
        size = file.stat().st_size
        system.put_file(str(file), target)
        if target != place:
            system.mv(target, place)
        system.invalidate_cache()
        came = int(system.info(place)["size"])
        if not size <= came <= file.stat().st_size:  # a log may have grown meanwhile
            raise OSError(f"{came} of {size} bytes were written")

    forget(address)
    try:
        attempt(address, "written", put)
    except FileNotFoundError as error:
        raise RemoteError(
            f"{shown(address)}: cannot be written, because its bucket or folder is not there ({error}); correct the"
            " address, or make the bucket"
        ) from error
    entry_of(address, again=True)


def upload_folder(folder: Path, address: str, names: Iterable[str]) -> None:
    """Upload files of a folder; those that complete it last.

    Raises
    ------
    RemoteError
        As `upload`.
    """
    for name in sorted(names, key=completing_last):
        upload(folder / name, f"{address}/{name}")


def delete(address: str) -> None:
    """Delete a file at an address, if it is there.

    Raises
    ------
    RemoteError
        When it cannot be deleted.
    """
    with suppress(FileNotFoundError):
        attempt(address, "deleted", lambda system, place: system.rm_file(place))
    forget(address)


def working_place(out: str | Path) -> Path:
    """Return the local file or folder in which the output of an address is written."""
    address = address_of(out).rstrip("/")
    return cache_folder() / "out" / hashlib.sha256(address.encode()).hexdigest()[:16] / Path(address).name


@contextmanager
def local_output(out: str | Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Yield the place where an output is written. For an address it is uploaded when the block ends without an error.

    Parameters
    ----------
    out : path
        A file or a folder; a local one is yielded as it is.
    overwrite : bool
        Replace what is at the address.
    resume : bool
        Continue: what is at the address is copied to the local place first, unless this machine has a newer one.

    Raises
    ------
    ConfigError
        When there is something at the address, and neither ``overwrite`` nor ``resume`` is given.
    RemoteError
        When the address cannot be read or written. The local files are kept.
    """
    address = address_of(out).rstrip("/")
    if not address:
        yield Path(out)
        return
    place = working_place(address)
    there = exists(address)
    if there and not (overwrite or resume):
        raise ConfigError(f"{shown(address)} exists; {WAYS}")
    place.parent.mkdir(parents=True, exist_ok=True)
    if there and resume and not place.exists():
        _fetch(address, place)
    with naming(place, address):
        yield place
    try:
        _replace(place, address)
    except RemoteError as error:
        raise RemoteError(
            f"{error}; the finished output is kept in {shown(place)}, and the same command uploads it (with --resume,"
            " if it has this option)"
        ) from error
    shutil.rmtree(place.parent, ignore_errors=True)


@contextmanager
def naming(place: Path, address: str) -> Iterator[None]:
    """Name the address instead of the local place in errors."""
    try:
        yield
    except UnheardError as error:
        error.args = tuple(each.replace(str(place), address) if isinstance(each, str) else each for each in error.args)
        raise


def relocated(result: Result, place: Path, out: str | Path) -> Result:
    """Return a report with the output that the caller gave, instead of the local place."""
    if not address_of(out) or isinstance(result, type) or not is_dataclass(result):
        return result
    names = [each.name for each in fields(result) if getattr(result, each.name) == place]
    report: Any = result
    return cast("Result", replace(report, **dict.fromkeys(names, Path(out))))


def _fetch(address: str, place: Path) -> None:
    if is_file(address):
        parent, name = address.rpartition("/")[::2]
        fetch(parent, place.parent, [name, *([f"{name}.json"] if is_file(f"{address}.json") else [])])
    else:
        fetch(address, place, list(files_below(address)))


def _replace(place: Path, address: str) -> None:
    """Upload an output, and delete files of an older one that it does not have."""
    if place.is_dir():
        names = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
        names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        old = set(files_below(address)) - set(names) if exists(address) else set()
        upload_folder(place, address, names)
        for name in sorted(old, key=completing_last, reverse=True):
            delete(f"{address}/{name}")
    elif place.exists():
        parent = address.rpartition("/")[0]
        names = [path.name for path in place.parent.iterdir() if path.is_file() and not path.name.startswith(".")]
        upload_folder(place.parent, parent, names)


def completing_last(name: str) -> tuple[bool, bool, str]:
    """Return a key that sorts files that complete a folder after the others, and those of the folder itself last."""
    final = name.rpartition("/")[2] in LAST
    return final, final and "/" not in name, name
