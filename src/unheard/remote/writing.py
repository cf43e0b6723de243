"""Files written to addresses, one by one.

A store replaces a file at once when its upload is complete, so that a reader never sees a part of it. The sizes are
compared afterwards, and a file that is too short, because of a faulty store or proxy, is deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar, cast

from unheard.addresses import address_of, scheme_of
from unheard.errors import RemoteError, UnheardError, shown
from unheard.remote.access import attempt
from unheard.remote.cache import cache_folder
from unheard.remote.listing import entry_of, forget

Result = TypeVar("Result")

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "oss", "oci", "memory"})
"""Schemes of stores in which an upload replaces a file at once."""

LAST = (
    *("part-*.json", "dataset.json", "targets.json", "state.json", "config.json", "finished.json"),
    *("probe.json", "results-*.json", "scores.json", "labels.csv", "manifest.csv", "task_metadata.json"),
)
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
        if came < size:
            system.rm_file(place)  # a part of the file must not be taken for the file
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


def working_place(out: str | Path, verb: str = "") -> Path:
    """Return the local file or folder in which a verb writes the output of an address; each verb has its own."""
    address = address_of(out).rstrip("/")
    return _waiting() / hashlib.sha256(f"{verb}{address}".encode()).hexdigest()[:16] / Path(address).name


def is_working_place(path: Path) -> bool:
    """Return whether a file waits for its upload: paths in it cannot be relative to its folder."""
    return path.resolve().is_relative_to(_waiting().resolve())


def _waiting() -> Path:
    return cache_folder() / "out"


@contextmanager
def naming(place: Path, address: str) -> Iterator[None]:
    """Name the address instead of the local place in errors."""
    try:
        yield
    except UnheardError as error:
        error.args = tuple(each.replace(str(place), address) if isinstance(each, str) else each for each in error.args)
        raise


def relocated(result: Result, place: Path, out: str | Path) -> Result:
    """Return a report with the output that the caller gave, instead of the local place, or a file below it."""
    if not address_of(out) or isinstance(result, type):
        return result
    if not is_dataclass(result):
        if getattr(result, "folder", None) == place:
            vars(result)["folder"] = Path(out)
        return result
    values = {each.name: getattr(result, each.name) for each in fields(result)}
    below = {name: each for name, each in values.items() if isinstance(each, Path) and each.is_relative_to(place)}
    report: Any = result
    return cast(
        "Result", replace(report, **{name: Path(out) / each.relative_to(place) for name, each in below.items()})
    )


def completing_last(name: str) -> tuple[bool, bool, str]:
    """Return a key that sorts files that complete a folder after the others, and those of the folder itself last."""
    final = any(fnmatch(name.rpartition("/")[2], last) for last in LAST)
    return final, final and "/" not in name, name
