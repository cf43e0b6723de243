"""Several packed corpora as one: their shards are linked, and only the index is written.

    A/shard-00000.bin  A/shard-00001.bin  B/shard-00000.bin
           |                  |                  |
    AB/shard-00000.bin AB/shard-00001.bin AB/shard-00002.bin     AB/index.npz  AB/dataset.json

The result is a packed corpus like any other: the clips of the parts in their order, with statistics over all of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

import numpy as np

from unheard.addresses import address_of, named
from unheard.audio.frontend import Statistics
from unheard.data.mapping import open_store
from unheard.data.pack import finished_before
from unheard.data.packing.shards import mean_and_deviation
from unheard.data.shard_layout import HEADER, Header, Index, Texts, describe, shard_name
from unheard.data.shard_writing import job_key, refuse_foreign, write_summary, writing
from unheard.data.store import Store
from unheard.errors import ConfigError, DataError
from unheard.files import FILES, UNFINISHED, read_json, remove_unfinished
from unheard.outputs import locked_folder
from unheard.progress import Track, silent


def join_packed(parts: Sequence[Path], out: Path, track: Track = silent) -> Store:
    """Write one packed corpus with the clips of several, in their order.

    Shards are hard links to those of the parts, which may be deleted afterwards. On another file system, they are
    copied. Paths of clips begin with the folder of their part, relative to the folder that holds all parts. A sound
    that two parts have is in the result twice. Memory grows with the number of clips.

    Parameters
    ----------
    parts : sequence of Path
        Packed corpora with the same front end and type.
    out : Path
        Folder to write. A complete one of the same parts is opened; a partly written one is completed.

    Raises
    ------
    ConfigError
        When there are fewer than two parts, or a part or ``out`` is at an address.
    DataError
        When a part is not a packed corpus, is stored otherwise than the first one, or is given twice; when ``out``
        holds something else, or the disk is full.
    """
    _refuse_places(parts, out)
    stores = [open_store(part) for part in parts]
    _refuse_differences(parts, stores)
    prefixes = _prefixes(parts)
    fingerprint = job_key("join", prefixes, [store.fingerprint for store in stores])
    if (finished := finished_before(out, fingerprint)) is not None:
        return finished
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with locked_folder(out):
            refuse_foreign(out, (HEADER,), "a packed corpus")
            if any(out.glob("shard-*.json")):
                raise DataError(f"{out} holds shards of an interrupted job; choose another folder, or delete it")
            remove_unfinished(out)
            checksums = _link_shards(parts, out, track)
            index = _joined_index(stores, prefixes)
            header = _joined_header(stores, prefixes, fingerprint)
            write_summary(out, (HEADER, describe(header, index)), index.arrays(), checksums)
    return open_store(out)


def _prefixes(parts: Sequence[Path]) -> list[str]:
    """Return the folder of each part, relative to the folder that holds all of them."""
    absolute = [os.path.abspath(part) for part in parts]  # noqa: PTH100 - links are not followed
    root = Path(os.path.commonpath([os.path.dirname(path) for path in absolute]))  # noqa: PTH120
    return [Path(path).relative_to(root).as_posix() for path in absolute]


def _refuse_places(parts: Sequence[Path], out: Path) -> None:
    if len(parts) < 2:
        raise ConfigError("give at least two packed corpora to join")
    if remote := next((each for each in (*parts, out) if address_of(each)), None):
        raise ConfigError(f"{named(remote)} is at an address; join corpora on a local disk, then copy the result")


def _refuse_differences(parts: Sequence[Path], stores: Sequence[Store]) -> None:
    """Refuse a part that is stored otherwise than the first one, or that holds the sounds of an earlier one."""
    wanted = _form(stores[0].header)
    known: dict[str, Path] = {}
    for part, store in zip(parts, stores, strict=True):
        form = _form(store.header)
        if differing := [
            f"{name} is {form[name]}, there {wanted[name]}" for name in form if form[name] != wanted[name]
        ]:
            raise DataError(
                f"{part} is stored otherwise than {parts[0]}: {'; '.join(differing)}; pack its audio again in the"
                " same way"
            )
        sounds = store.header.sounds or store.fingerprint
        if sounds in known:
            raise DataError(f"{part} holds the sounds of {known[sounds]}; give each corpus once")
        known[sounds] = part


def _form(header: Header) -> dict[str, object]:
    """Return what has to be equal in all parts, as plain values by name."""
    frontend = {f"front end {name}": value for name, value in asdict(header.frontend).items()}
    return {**frontend, "dtype": header.dtype, "rate": header.sample_rate, "range": header.value_range}


def _link_shards(parts: Sequence[Path], out: Path, track: Track) -> list[str]:
    """Link or copy the shards of all parts, numbered through. Return their SHA-256."""
    shards: list[tuple[Path, str]] = []
    for part in parts:
        listed = read_json(part / HEADER)[FILES]
        names = [shard_name(number) for number in range(len(listed) - 1)]  # the other file is the index
        shards += [(part / name, listed[name]) for name in names]
    for number, (source, _) in enumerate(track(shards, len(shards), "linking")):
        unfinished = out / f".{shard_name(number)}{UNFINISHED}"
        try:
            os.link(source.resolve(), unfinished)
        except OSError:  # another file system, one without links, or a file of another user
            shutil.copyfile(source, unfinished)
        unfinished.replace(out / shard_name(number))
        unfinished.unlink(missing_ok=True)  # it stays if it was already a link to the same file
    return [checksum for _, checksum in shards]


def _joined_index(stores: Sequence[Store], prefixes: Sequence[str]) -> Index:
    indices = [store.index for store in stores]
    first = np.cumsum([0, *(len(store.shards) for store in stores)])

    def numbers(name: str) -> np.ndarray:
        return np.concatenate([getattr(index, name) for index in indices])

    def texts(name: str) -> Texts | None:
        columns = [getattr(index, name) for index in indices]
        if all(column is None for column in columns):
            return None
        empty = [Texts(np.zeros(0, np.uint8), np.zeros(len(index.frames), np.int64)) for index in indices]
        return _concatenated(
            [blank if column is None else column for column, blank in zip(columns, empty, strict=True)]
        )

    paths = [_prefixed(index.path, f"{prefix}/") for index, prefix in zip(indices, prefixes, strict=True)]
    return Index(
        shard=np.concatenate([index.shard + at for index, at in zip(indices, first, strict=False)]),
        offset=numbers("offset"),
        frames=numbers("frames"),
        path=_concatenated(paths),
        domain=_concatenated([index.domain for index in indices]),
        start=numbers("start"),
        seconds=numbers("seconds"),
        samples=None if indices[0].samples is None else numbers("samples"),
        label=texts("label"),
        caption=texts("caption"),
    )


def _joined_header(stores: Sequence[Store], prefixes: Sequence[str], fingerprint: str) -> Header:
    headers, frames = [store.header for store in stores], [int(store.frames.sum()) for store in stores]
    first = headers[0]
    skipped = tuple(
        replace(each, path=str(PurePosixPath(prefix, each.path)))
        for prefix, header in zip(prefixes, headers, strict=True)
        for each in header.skipped
    )
    bands = first.frontend.n_mels
    return replace(
        first,
        statistics=_pooled(headers, frames, lambda header: header.statistics, bands),
        band_statistics=_pooled(headers, frames, lambda header: header.band_statistics, 1),
        fingerprint=fingerprint,
        skipped=skipped,
        sounds=job_key("join", [header.sounds or header.fingerprint for header in headers]),
        clipped=sum(header.clipped for header in headers),
        held_out=sum(header.held_out for header in headers),
    )


def _pooled(
    headers: Sequence[Header], frames: Sequence[int], of: Callable[[Header], Statistics], values: int
) -> Statistics:
    """Return mean and unbiased deviation over all parts, each with ``values`` values a frame."""
    total, squares = np.zeros(1), np.zeros(1)
    for header, own in zip(headers, frames, strict=True):
        count, mean, std = own * values, np.array(of(header).mean), np.array(of(header).std)
        total = total + count * mean
        squares = squares + max(count - 1, 1) * std**2 + count * mean**2
    return mean_and_deviation(total, squares, sum(frames) * values)


def _concatenated(columns: Sequence[Texts]) -> Texts:
    ends, begin = [], 0
    for column in columns:
        ends.append(column.ends + begin)
        begin += len(column.utf8)
    return Texts(np.concatenate([column.utf8 for column in columns]), np.concatenate(ends))


def _prefixed(column: Texts, prefix: str) -> Texts:
    """Return a column with the same text before each of its texts."""
    head, count = np.frombuffer(prefix.encode("utf-8", "surrogateescape"), np.uint8), len(column)
    ends = column.ends + len(head) * np.arange(1, count + 1)
    starts = np.concatenate([[0], ends[:-1]])
    size = len(column.utf8) + len(head) * count
    utf8, own = np.empty(size, np.uint8), np.ones(size, bool)
    for place, byte in enumerate(head):
        utf8[starts + place], own[starts + place] = byte, False
    utf8[own] = column.utf8
    return Texts(utf8, ends)
