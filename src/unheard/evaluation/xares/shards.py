"""Samples of X-ARES shards: a sound and a json with the same key, in tar files or in the folders they unpack to."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from unheard.audio.waveform import read_channels
from unheard.errors import AudioError, DataError, shown

SOUNDS = frozenset({"flac", "mp3", "sox", "wav", "m4a", "ogg", "wma"})
"""Endings of sounds in X-ARES, in lower case."""

_MEMBER = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]*)$")
"""Key: the path up to the first dot of the file name."""

SHOWN = 3  # keys that a message names; our choice


@dataclass(frozen=True)
class Sample:
    """A sound with its json.

    Parameters
    ----------
    key : str
        Path of the members up to the first dot of the file name.
    channels : Float32[ndarray, "C S"]
        Values in [-1, 1].
    rate : int
        Hz.
    record : object
        Content of the json.
    """

    key: str
    channels: Float32[np.ndarray, "C S"]
    rate: int
    record: Any


def find_shards(folder: Path, pattern: str) -> list[Path]:
    """Return the tar files, or unpacked folders, of a split, sorted by name; a tar file replaces its folder.

    The reference reads shards in the order of the file system.

    Raises
    ------
    DataError
        When there is none.
    """
    tars = sorted(path for path in folder.glob(f"{pattern}*.tar") if path.is_file())
    known = {path.stem for path in tars}
    unpacked = [path for path in folder.glob(f"{pattern}*") if path.is_dir() and path.name not in known]
    if not tars and not unpacked:
        raise DataError(f"{folder} has no file {pattern}*.tar and no folder {pattern}*; download the task again")
    return sorted([*tars, *unpacked], key=lambda path: path.name)


def shard_files(shard: Path) -> list[Path]:
    """Return the files whose content identifies a shard."""
    return [shard] if shard.is_file() else sorted(path for path in shard.rglob("*") if path.is_file())


def count_samples(shard: Path) -> int:
    """Return the number of json members of a shard, for the display of progress.

    Raises
    ------
    DataError
        When the tar file is damaged.
    """
    if shard.is_dir():
        return sum(path.suffix == ".json" for path in shard.rglob("*"))
    with _opened(shard) as tar:
        return sum(name.endswith(".json") for name in _members(shard, tar, lambda member: member.name))


def read_samples(shard: Path, skip: Callable[[str], None]) -> Iterator[Sample]:
    """Yield the samples of a shard in order; call ``skip`` with a line for each that cannot be used.

    Raises
    ------
    DataError
        When the tar file is damaged.
    """
    for key, parts in _groups(_contents(shard)):
        sounds = [ending for ending in parts if ending.rpartition(".")[2] in SOUNDS]
        where = f"{shard.name}: {shown(key)}"
        if not sounds or "json" not in parts:
            skip(f"{where} has no {'sound' if not sounds else 'json'}")
            continue
        try:
            record = json.loads(parts["json"])
            channels, rate = _decoded(parts[sounds[0]], sounds[0].rpartition(".")[2])
        except (ValueError, AudioError) as error:
            skip(f"{where} cannot be read ({' '.join(str(error).split())})")
            continue
        yield Sample(key, channels, rate, record)


def _decoded(content: bytes, ending: str) -> tuple[Float32[np.ndarray, "C S"], int]:
    """Decode a sound through a temporary file, because decoders need a path."""
    with tempfile.NamedTemporaryFile(prefix="sound-", suffix=f".{ending}") as file:
        file.write(content)
        file.flush()
        try:
            return read_channels(file.name)
        except AudioError as error:
            raise AudioError(str(error).partition(": ")[2] or str(error)) from error


def _groups(members: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield consecutive members with one key; of several with one ending the first is kept."""
    current, parts = "", dict[str, bytes]()
    for name, content in members:
        found = _MEMBER.match(name)
        if found is None:
            continue
        key, ending = found[1], found[2].lower()
        if parts and key != current:
            yield current, parts
            parts = {}
        current = key
        parts.setdefault(ending, content)
    if parts:
        yield current, parts


def _contents(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of a shard."""
    if shard.is_dir():
        for path in shard_files(shard):
            yield path.relative_to(shard).as_posix(), path.read_bytes()
        return
    with _opened(shard) as tar:
        yield from _members(shard, tar, lambda member: (member.name, _content(tar, member)))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "only files are read"
    content = file.read()
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _members(shard: Path, tar: tarfile.TarFile, read: Callable[[tarfile.TarInfo], Any]) -> Iterator[Any]:
    count = 0
    try:
        for member in tar:
            if member.isfile():
                yield read(member)
                count += 1
        if not _ends(shard, tar.offset):
            raise tarfile.ReadError("it has no end mark")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{shard} is truncated or damaged after {count} files ({error}); download it again") from error


def _ends(shard: Path, offset: int) -> bool:
    """Return whether a tar file has a block of zeros where its members end."""
    with shard.open("rb") as file:
        file.seek(max(0, offset - tarfile.BLOCKSIZE))
        rest = file.read(2 * tarfile.BLOCKSIZE)
    return tarfile.NUL * tarfile.BLOCKSIZE in rest


def _opened(shard: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(shard, "r:")
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard} is no tar file ({error}); download it again") from error
