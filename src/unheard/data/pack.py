"""Packing: audio to shards in one parallel pass that can be interrupted.

The shard of a clip depends on the corpus alone. Clips are written in order, whatever thread finishes first, so the
bytes do not depend on the number of workers. A finished shard has a small record file in the same folder; a second run
continues after it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from unheard.addresses import address_of, named
from unheard.audio.frontend import Statistics
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.data.corpus import Clip, Corpus, Skipped
from unheard.data.mapping import open_store
from unheard.data.pack_clip import PackConfig, Packed, transformed
from unheard.data.shard_layout import FORMAT, HEADER, INDEX, Frames, Header, Index, Texts, describe
from unheard.data.shard_writing import (
    finished_shard,
    job_key,
    refuse_foreign,
    remove_leftovers,
    write_record,
    write_shard,
    write_summary,
    writing,
)
from unheard.data.store import Store, make_store
from unheard.errors import DataError
from unheard.files import remove_unfinished
from unheard.outputs import locked_folder
from unheard.progress import Track, silent
from unheard.remote.listing import exists, files_below, is_file
from unheard.remote.writing import local_output

SHARD_BYTES = 256 * 2**20
"""Planned size of a shard: small enough that an interruption loses little work (our choice)."""


@dataclass
class _Record:
    """Metadata of a shard, stored in the same folder until the whole corpus is packed."""

    key: str
    """Hash of the corpus and of the packing configuration."""
    clips: list[int] = field(default_factory=list)
    """Numbers of its clips in the corpus."""
    frames: list[int] = field(default_factory=list)
    """Frames of each clip."""
    rows: list[int] = field(default_factory=list)
    """Rows of the shard for each clip."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason."""
    total: list[float] = field(default_factory=list)
    """Sum of each band."""
    squares: list[float] = field(default_factory=list)
    """Sum of squares of each band."""
    clipped: int = 0
    """Values outside the range of the type."""
    checksum: str = ""
    """SHA-256 of the shard's file."""

    def accumulate(self, numbers: Iterable[int], results: Iterable[Packed | Skipped]) -> Iterator[Frames]:
        """Record every result and yield the frames to store."""
        total, squares = np.zeros(1), np.zeros(1)
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, Skipped):
                self.skipped.append((result.path, result.reason))
                continue
            self.clips.append(number)
            self.frames.append(result.frames)
            self.rows.append(len(result.values))
            self.clipped += result.clipped
            total, squares = total + result.total, squares + result.squares
            yield result.values
        self.total, self.squares = total.tolist(), squares.tolist()


def pack(
    corpus: Corpus,
    packing: PackConfig | AnyFrontendConfig,
    out: str | Path | None = None,
    workers: int | None = None,
    track: Track = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Pack a corpus as spectrograms or waves.

    Files that cannot be read are skipped and listed in the store. Silence is kept.

    Parameters
    ----------
    corpus : Corpus
    packing : PackConfig or front end configuration
        A front end alone means float16 spectrograms.
    out : path, optional
        Folder to write; a partly packed folder of the same corpus is completed. One at an address is packed locally,
        then uploaded, the header last. Default: keep everything in memory.
    workers : int, optional
        Threads. Default: one a core.
    shard_bytes : int
        Planned size of a shard.

    Raises
    ------
    DataError
        When no clip can be read, the disk is full, or ``out`` holds another corpus.
    """
    config = packing if isinstance(packing, PackConfig) else PackConfig(packing)
    fingerprint = job_key(FORMAT, corpus.fingerprint(), *config.key())
    folder = None if out is None else Path(out)
    if folder is not None and address_of(folder):
        if is_file(folder / HEADER):
            return _finished_before(folder, fingerprint)
        _refuse_foreign_address(folder)
        with local_output(folder, overwrite=True) as place:
            pack(corpus, packing, place, workers, track, shard_bytes)
        return open_store(folder)
    if folder is not None and (folder / HEADER).exists():
        remove_leftovers(folder)
        return _finished_before(folder, fingerprint)
    with writing(folder), nullcontext() if folder is None else locked_folder(folder):
        if folder is not None:
            if (folder / HEADER).exists():  # another process has packed it since
                return _finished_before(folder, fingerprint)
            refuse_foreign(folder, (HEADER,), "a packed corpus")
            remove_unfinished(folder)
        plan, key = _plan(corpus.clips, config, shard_bytes), job_key(fingerprint, shard_bytes)
        records = [_finished(folder, number, key) for number in range(len(plan))]
        todo = [
            corpus.clips[i] for numbers, record in zip(plan, records, strict=True) if record is None for i in numbers
        ]
        results = track(transformed(corpus.root, todo, config, workers or os.cpu_count() or 1), len(todo), "packing")
        shards: list[Frames] = []
        for number, numbers in enumerate(plan):
            if records[number] is None:
                records[number] = record = _Record(key)
                values = record.accumulate(numbers, islice(results, len(numbers)))
                if folder is None:
                    shards.append(np.concatenate([config.empty(), *values]))
                else:
                    record.checksum = write_shard(folder, number, values)
                    write_record(folder, number, asdict(record))
        deque(results, maxlen=0)  # requests the end of the iterator, so that the progress shows the last clip as done
        complete = [record for record in records if record is not None]
        header, index = _summary(corpus, complete, fingerprint, config)
        if folder is None:
            return make_store(header, index, shards)
        checksums = [record.checksum for record in complete]
        write_summary(folder, (HEADER, describe(header, index)), index.arrays(), checksums)
    return open_store(folder)


def _refuse_foreign_address(folder: Path) -> None:
    """Refuse an address with other files than those of an interrupted upload."""
    for name in files_below(folder) if exists(folder) else ():
        if not name.startswith(("shard-", INDEX)):
            raise DataError(f"{named(folder)} holds other files ({name}); choose an empty folder for the packed corpus")


def _finished_before(folder: Path, fingerprint: str) -> Store:
    store = open_store(folder)
    if store.fingerprint != fingerprint:
        raise DataError(f"{named(folder)} holds another packed corpus; choose another folder, or delete it")
    return store


def _plan(clips: tuple[Clip, ...], config: PackConfig, shard_bytes: int) -> list[range]:
    """Assign clips to shards, from their lengths in the headers."""
    plan, first, planned = [], 0, 0.0
    for number, clip in enumerate(clips):
        planned += clip.seconds * config.bytes_a_second
        if planned >= shard_bytes or number == len(clips) - 1:
            plan.append(range(first, number + 1))
            first, planned = number + 1, 0.0
    return plan


def _finished(folder: Path | None, number: int, key: str) -> _Record | None:
    """Return the record of a shard that an earlier run of the same job finished."""
    found = finished_shard(folder, number, key)
    try:
        return None if found is None else _Record(**found)
    except TypeError:
        return None


def _summary(corpus: Corpus, records: list[_Record], fingerprint: str, config: PackConfig) -> tuple[Header, Index]:
    """Return header and index of a corpus from the records of its shards."""
    skipped = corpus.skipped + tuple(Skipped(*pair) for record in records for pair in record.skipped)
    clips = [corpus.clips[i] for record in records for i in record.clips]
    if not clips:
        raise DataError(
            f"{corpus.root}: none of {len(corpus.clips)} clips could be read; the first: {skipped[0].path}:"
            f" {skipped[0].reason}"
        )
    rows = [np.array(record.rows, np.int64) for record in records]
    index = Index(
        shard=np.repeat(np.arange(len(records)), [len(part) for part in rows]),
        offset=np.concatenate([np.cumsum(part) - part for part in rows]),
        frames=np.concatenate([np.array(record.frames, np.int64) for record in records]),
        path=Texts.of([clip.path for clip in clips]),
        domain=Texts.of([clip.domain for clip in clips]),
        start=np.array([clip.start for clip in clips]),
        seconds=np.array([clip.seconds for clip in clips]),
        samples=np.concatenate(rows) if config.waves else None,
        label=_optional_column([clip.label for clip in clips]),
        caption=_optional_column([clip.caption for clip in clips]),
    )
    used = [record for record in records if record.clips]
    total = np.sum([record.total for record in used], axis=0)
    squares = np.sum([record.squares for record in used], axis=0)
    count = int(index.frames.sum())
    scalar = mean_and_deviation(total.sum(keepdims=True), squares.sum(keepdims=True), count * config.frontend.n_mels)
    header = Header(
        config.frontend,
        config.dtype,
        scalar,
        mean_and_deviation(total, squares, count),
        fingerprint,
        skipped,
        sample_rate=config.rate if config.waves else None,
        value_range=config.value_range,
        sounds=corpus.sounds_fingerprint(),
        clipped=sum(record.clipped for record in records),
    )
    return header, index


def _optional_column(texts: list[str]) -> Texts | None:
    return Texts.of(texts) if any(texts) else None


def mean_and_deviation(total: np.ndarray, squares: np.ndarray, count: int) -> Statistics:
    """Return mean and unbiased deviation from float64 sums over ``count`` values."""
    mean = total / count
    variance = np.maximum(squares - count * mean**2, 0.0) / max(count - 1, 1)
    return Statistics(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))
