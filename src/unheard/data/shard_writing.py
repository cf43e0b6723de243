"""Writing of a folder of shards, a packed corpus or stored targets; it can be interrupted. `store` reads them.

    shard-00000.bin ...   arrays, one after another
    shard-00000.json ...  record of a finished shard; deleted when all shards are finished
    index.npz             arrays that describe the shards
    header                written last: a JSON file with the SHA-256 of every other file

A second run of the same job continues after the finished shards.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unheard.data.shard_layout import INDEX, Frames, shard_name
from unheard.errors import DataError, RemoteError
from unheard.files import FILES, atomic_write, differing_files, file_checksum, read_json, write_json
from unheard.jobs.plan import tasks_folder
from unheard.outputs import LOCK, locked_folder


def job_key(*values: object) -> str:
    """Return the hash that identifies a job by its inputs."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@contextmanager
def writing(folder: Path | None) -> Iterator[None]:
    """Convert an error of the disk to one clear error.

    Raises
    ------
    DataError
        When the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except RemoteError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"{folder}: the disk is full; free some space and run the command again, finished shards are kept"
            raise DataError(message) from error
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error


def refuse_foreign(folder: Path, names: Sequence[str], what: str) -> None:
    """Refuse a folder that holds files other than shards, index and those of ``names``; ``what`` belongs there.

    Raises
    ------
    DataError
        Naming the first of these files.
    """
    own = ("shard-", INDEX, LOCK[1:], *names)
    if foreign := [entry.name for entry in folder.iterdir() if not entry.name.lstrip(".").startswith(own)]:
        raise DataError(f"{folder} holds other files ({foreign[0]}), which {what} would hide; choose an empty folder")


def write_shard(folder: Path, number: int, values: Iterable[Frames]) -> str:
    """Write arrays one after another to a shard. Return its SHA-256."""
    digest = hashlib.sha256()
    with atomic_write(folder / shard_name(number)) as unfinished, unfinished.open("wb") as file:
        for each in values:
            contiguous = np.ascontiguousarray(each)
            file.write(contiguous.data)
            digest.update(contiguous.data)
    return digest.hexdigest()


def write_record(folder: Path, number: int, record: Mapping[str, Any]) -> None:
    """Write the record of a finished shard; it holds its ``key`` and ``checksum``."""
    write_json(_record_file(folder, number), record)


def finished_shard(folder: Path | None, number: int, key: str, verify: bool = True) -> dict[str, Any] | None:
    """Return the record of a shard that an earlier run of the same job finished.

    With ``verify``, its file is read and compared with its checksum.
    """
    if folder is None:
        return None
    try:
        record = read_json(_record_file(folder, number))
        if record["key"] != key:
            return None
        return None if verify and differing_files(folder, {shard_name(number): record["checksum"]}) else record
    except (OSError, DataError, KeyError):
        return None


def other_key(folder: Path, key: str) -> bool:
    """Return whether a folder holds finished shards of another job."""
    for file in folder.glob("shard-*.json"):
        try:
            if read_json(file).get("key") != key:
                return True
        except (OSError, DataError):
            continue
    return False


def write_summary(
    folder: Path, header: tuple[str, Mapping[str, Any]], arrays: Mapping[str, np.ndarray], checksums: Sequence[str],
    others: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write the index and then the header, which completes the folder; delete the records.

    Parameters
    ----------
    header : tuple of str and mapping
        File name and content.
    checksums : sequence of str
        SHA-256 of every shard.
    others : sequence of str
        Names of further files that the header lists.
    """
    with atomic_write(folder / INDEX) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    listed = {name: file_checksum(folder / name) for name in (INDEX, *others)}
    listed |= {shard_name(number): checksum for number, checksum in enumerate(checksums)}
    write_json(folder / header[0], {**header[1], FILES: listed})
    for shard in folder.glob("shard-*.bin"):
        if shard.name not in listed:  # of an interrupted job with more shards
            shard.unlink()
    remove_records(folder)
    shutil.rmtree(tasks_folder(folder), ignore_errors=True)


def remove_records(folder: Path) -> None:
    """Delete the records of a folder that has a header."""
    for record in folder.glob("shard-*.json"):
        record.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a process left that was killed after it had written the header: records, parts and the lock.

    Raises
    ------
    InUseError
        When that process is still working.
    """
    tasks = tasks_folder(folder)
    if (folder / LOCK).exists() or tasks.exists() or any(folder.glob("shard-*.json")):
        with locked_folder(folder):
            remove_records(folder)
            shutil.rmtree(tasks, ignore_errors=True)


def _record_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.json"
