"""Packed corpora and their indices as maps of files: nothing is read until it is used."""

from __future__ import annotations

import zipfile
from bisect import bisect_right
from pathlib import Path
from struct import unpack
from typing import BinaryIO

import numpy as np

from unheard.addresses import address_of
from unheard.config import from_json
from unheard.data.shard_layout import FORMAT, HEADER, INDEX, Frames, Header, Index, shard_name
from unheard.data.store import Store, make_store
from unheard.errors import ConfigError, DataError
from unheard.files import FILES, differing_files, read_json
from unheard.remote.reading import copied_folder
from unheard.remote.shards import RemoteShards, Shard

LOCAL_HEADER = 30
"""Bytes of the fixed part of a local header of a zip file."""
NAME_LENGTHS = 26
"""Where the local header states the lengths of the name and of the extra field."""
CHECKED_AT_ONCE = 2**28
"""Bytes of the largest index whose checksum is compared before it is used; a larger one is compared with the shards."""


def open_store(path: str | Path) -> Store:
    """Open a packed corpus; its index and shards are mapped, not read.

    The index of a corpus at an address is copied; a shard is downloaded when it is used.

    Raises
    ------
    DataError
        When the folder is not a packed corpus, has a newer format, or a shard is missing or truncated.
    """
    place = Path(path)
    if address := address_of(place):
        with copied_folder(place, (HEADER, INDEX).__contains__) as folder:
            header, index, checksums = _read_summary(folder)
        names = [shard_name(number) for number in range(len(checksums))]
        shards = [
            Shard(f"{address.rstrip('/')}/{name}", checksums[name], (_rows(index, at), *header.row), header.dtype)
            for at, name in enumerate(names)
        ]
        return make_store(header, index, RemoteShards(shards), place)
    header, index, checksums = _read_summary(place)
    counts = [_rows(index, number) for number in range(len(checksums))]
    return make_store(
        header, index, [_map(place / shard_name(i), header, rows) for i, rows in enumerate(counts)], place
    )


def _read_summary(folder: Path) -> tuple[Header, Index, dict[str, str]]:
    """Return the header and the index of a packed corpus, and the SHA-256 of each shard."""
    try:
        stored = read_json(folder / HEADER, DataError, "copy the corpus again, or pack it into a new folder")
        if stored["format"] != FORMAT:
            older = "pack the audio again" if stored["format"] < FORMAT else "upgrade unheard"
            raise DataError(
                f"{folder}: packed in format {stored['format']}, this version reads format {FORMAT}; {older}"
            )
        header, checksums = from_json(Header, stored["header"]), stored[FILES]
        listed = {INDEX: checksums.pop(INDEX)}
        small = not (folder / INDEX).is_file() or (folder / INDEX).stat().st_size <= CHECKED_AT_ONCE
        if small and differing_files(folder, listed):
            raise DataError(
                f"{folder}/{INDEX} is missing or differs from its checksum; copy it again, or pack the corpus into a"
                " new folder"
            )
        index = Index.of_arrays(map_arrays(folder / INDEX))
    except (OSError, KeyError, ValueError, TypeError, ConfigError) as error:
        raise DataError(
            f"{folder}: not a packed corpus ({error}); make one with: unheard data pack DIR -o {folder}"
        ) from error
    return header, index, checksums


def _rows(index: Index, number: int) -> int:
    """Return the rows of a shard: the end of its last clip. Clips are stored in order, without gaps."""
    last = bisect_right(index.shard, number) - 1
    return int(index.offset[last] + index.rows[last]) if last >= 0 and index.shard[last] == number else 0


def _map(file: Path, header: Header, rows: int) -> Frames:
    """Map a shard as an array, without reading it."""
    shape = (rows, *header.row)
    wanted = int(np.prod(shape)) * np.dtype(header.dtype).itemsize
    size = file.stat().st_size if file.is_file() else -1
    if size != wanted:
        found = "is missing" if size < 0 else f"has {size} bytes instead of {wanted}"
        raise DataError(f"{file} {found}; copy it again, or pack the corpus again")
    if not rows:  # an empty file cannot be mapped
        return np.empty(shape, header.dtype)
    return np.memmap(file, header.dtype, mode="r", shape=shape)


def map_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file of `numpy.savez` by name, mapped read-only.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is damaged, compressed, or has arrays of objects.
    """
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
            return {
                member.filename.removesuffix(".npy"): _map_member(file, raw, member) for member in archive.infolist()
            }
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error


def _map_member(file: Path, raw: BinaryIO, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed, so it cannot be mapped")
    raw.seek(member.header_offset + NAME_LENGTHS)
    name, extra = unpack("<HH", raw.read(4))
    raw.seek(member.header_offset + LOCAL_HEADER + name + extra)
    version = np.lib.format.read_magic(raw)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(raw)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} has objects, which are never read")
    if 0 in shape:
        return np.empty(shape, dtype)
    mapped: np.ndarray = np.memmap(
        file, dtype, mode="r", offset=raw.tell(), shape=shape, order="F" if by_columns else "C"
    )
    return mapped
