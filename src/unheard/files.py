"""Write files and folders atomically, synchronised to disk, with a checksum.

A file is written under a unique temporary name in the same folder, synchronised (``fsync``) and renamed. A process that
is killed in between leaves the old file, and a temporary file that `remove_unfinished` deletes.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unheard.errors import DataError, UnheardError
from unheard.outputs import LOCK, locked_file, refuse_address

CHECKSUM = "content_sha256"
"""Field of a JSON file that holds the SHA-256 of its other fields."""

FILES = "files"
"""Field of a JSON file that holds the SHA-256 of other files of its folder, by name."""

UNFINISHED = ".part"
"""End of temporary names; they begin with a dot and the final name."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename it to ``path`` when the block ends without an error.

    The name is unique, so that several processes can write the same file: the last one wins, and each version is
    complete.
    """
    refuse_address(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{UNFINISHED}")
    mode = _mode_of_new_files(unfinished)
    try:
        yield unfinished
        _set_mode(unfinished, mode)
        _synchronise(unfinished)
        unfinished.replace(path)
        _synchronise(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file. Return ``path``."""
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8. Return ``path``."""
    return write_bytes(path, text.encode())


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> Path:
    """Write a CSV. Return ``path``.

    Raises
    ------
    ValueError
        When two columns have the same name: a row would hold only one of them.
    """
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: two columns have the same name among {', '.join(columns)}")
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, values: Mapping[str, Any]) -> Path:
    """Write an object as JSON with a checksum that `read_json` compares. Return ``path``."""
    return write_text(path, json.dumps({**values, CHECKSUM: json_checksum(values)}, indent=2) + "\n")


def read_json(
    path: Path, error: type[UnheardError] = DataError, advice: str = "restore it from a copy"
) -> dict[str, Any]:
    """Read an object that `write_json` wrote, without its checksum.

    Raises
    ------
    UnheardError
        Of the given class, when the file is not JSON, not an object, or differs from its checksum. ``advice`` is the
        end of the message.
    OSError
        When the file cannot be read.
    """
    content = path.read_bytes()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is damaged ({problem}); {advice}") from problem
    if not isinstance(values, dict) or CHECKSUM not in values:
        raise error(f"{path} has no checksum: it is damaged, edited, or from another version of unheard; {advice}")
    stored = values.pop(CHECKSUM)
    if stored != json_checksum(values):
        raise error(f"{path} differs from its checksum: it is damaged or was edited; {advice}")
    return values


def json_checksum(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an object, whatever the order of its fields."""
    plain = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a folder by name, for the field `FILES` of a JSON file in that folder."""
    return {name: file_checksum(folder / name) for name in names}


def differing_files(folder: Path, checksums: Mapping[str, str]) -> list[str]:
    """Return the names of the files of a folder that are missing or differ from their checksums."""
    return [
        name
        for name, checksum in checksums.items()
        if not (folder / name).is_file() or file_checksum(folder / name) != checksum
    ]


def json_line(row: Mapping[str, Any]) -> str:
    """Return a line of a JSON lines file, ending with the CRC-32 of the preceding text."""
    text = json.dumps(row)[:-1]
    return f'{text}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'


def read_json_lines(file: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Read a file of `json_line`.

    Return its rows, and the numbers, from 1, of the lines that are incomplete or differ from their CRC-32.
    """
    rows, damaged = [], []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        text, _, checksum = line.partition(b', "crc32": ')
        if checksum == b'"%08x"}' % zlib.crc32(text):
            rows.append(json.loads(text + b"}"))
        elif line:
            damaged.append(number)
    return rows, damaged


def verify_folder(folder: Path) -> Iterator[str]:
    """Compare all files below a folder that have a checksum. Yield one line for each damaged or missing file."""
    for file in sorted(folder.rglob("*.json")):
        with contextlib.suppress(OSError):  # without permission to read
            if f'"{CHECKSUM}"'.encode() in file.read_bytes():
                try:
                    differing = differing_files(file.parent, read_json(file).get(FILES, {}))
                    yield from (f"{file.parent / name} is missing or differs from its checksum" for name in differing)
                except DataError as error:
                    yield str(error)
    for file in sorted(folder.rglob("metrics.jsonl")):
        yield from (f"{file}: line {number} is incomplete or damaged" for number in read_json_lines(file)[1])


def remove_contents(folder: Path) -> None:
    """Delete the contents of a folder, except its lock file."""
    for entry in folder.iterdir():
        if entry.name != LOCK:
            _remove(entry)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder; the caller must hold the lock of the
    folder.
    """
    for entry in folder.glob(f".*{UNFINISHED}"):
        _remove(entry)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a temporary folder with ``write`` and replace ``folder`` with it; the old contents stay until then.

    A folder cannot be exchanged for another in one operation. When the program dies between the two renames, the old
    one is still there under the name that `recover_interrupted` returns. An error renames it back.

    Raises
    ------
    InUseError
        When another process is replacing the same folder.
    """
    unfinished, old = folder.with_name(f".{folder.name}{UNFINISHED}"), _backup_path(folder)
    with locked_file(folder):
        if recover_interrupted(folder) == old:
            old.replace(folder)
        _remove(unfinished)
        _remove(old)
        try:
            unfinished.mkdir()
            mode = _mode_of_new_files(unfinished / UNFINISHED)
            write(unfinished)
            for entry in (*unfinished.rglob("*"), unfinished):
                _set_mode(entry, mode)
                _synchronise(entry)
            if folder.exists():
                folder.replace(old)
            unfinished.replace(folder)
            _synchronise(folder.parent)
        except BaseException:
            _remove(unfinished)
            if recover_interrupted(folder) == old:
                old.replace(folder)
            raise
        _remove(old)


def recover_interrupted(folder: Path) -> Path:
    """Return ``folder``, or the one that it was replacing when the program died."""
    return _backup_path(folder) if not folder.exists() and _backup_path(folder).exists() else folder


def _backup_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _mode_of_new_files(unused: Path) -> int:
    """Return the mode that ``open`` gives a new file: the umask of the process, or the rules of the folder."""
    unused.touch()
    try:
        return unused.stat().st_mode
    finally:
        unused.unlink()


def _set_mode(path: Path, mode: int) -> None:
    """Set the mode of a file; libraries that write through a temporary file leave one that only its owner reads."""
    if path.is_file() and path.stat().st_mode != mode:
        path.chmod(stat.S_IMODE(mode))


def _synchronise(path: Path) -> None:
    """Synchronise a file, or the entries of a folder, to disk; file systems without support are ignored."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def write_confusion(folder: Path, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Write ``confusion.csv``, true classes in rows, predicted classes in columns; without counts remove an older
    file.
    """
    file, columns = folder / "confusion.csv", ("true", *(f"predicted {name}" for name in classes))
    if not counts:
        file.unlink(missing_ok=True)
        return
    write_table(
        file,
        columns,
        [dict(zip(columns, (name, *map(str, row)), strict=True)) for name, row in zip(classes, counts, strict=True)],
    )
