"""Samples of X-ARES shards: a sound and a json with the same key, in tar files or in the folders they unpack to."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from unheard.audio.archives.tar import Entry, read_headers
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
    with shard.open("rb") as tar:
        return sum(member.name.endswith(".json") for member in _members(shard, tar))


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
    """Yield the name and the content of each file of a shard, in their order."""
    if shard.is_dir():
        for path in shard_files(shard):
            yield path.relative_to(shard).as_posix(), path.read_bytes()
        return
    with shard.open("rb") as tar:
        for member in _members(shard, tar):
            tar.seek(member.offset)
            yield member.name, tar.read(member.size)


def _members(shard: Path, tar: BufferedReader) -> Iterator[Entry]:
    """Yield the files of a tar file in their order, as the reference reads them; links are left out.

    An index by name, as of `unheard.audio.archives`, would lose the order and all but one of several equal names.
    """
    try:
        yield from (member for member in read_headers(tar) if not member.problem)
    except AudioError as error:
        raise DataError(f"{shown(shard)}: {error}") from error
