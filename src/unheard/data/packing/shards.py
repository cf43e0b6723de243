"""Shards of a packed corpus: which clips are in each, how one is written, and the record of a finished one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from unheard.audio.frontend import Statistics
from unheard.data.corpus import Clip, Corpus, Skipped
from unheard.data.pack_clip import PackConfig, Packed, transformed
from unheard.data.shard_layout import HEADER, Frames, Header, Index, Texts, describe
from unheard.data.shard_writing import finished_shard, write_record, write_shard, write_summary
from unheard.data.tables import ends_before
from unheard.errors import DataError, shown, warn_audio
from unheard.progress import Track, silent

SHARD_BYTES = 256 * 2**20
"""Planned size of a shard: small enough that an interruption loses little work (our choice)."""


@dataclass
class Record:
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


@dataclass(frozen=True)
class ShardClips:
    """The clips of a shard.

    Parameters
    ----------
    number : int
        Of the shard.
    first : int
        Number of its first clip in the corpus.
    clips : tuple of Clip
    """

    number: int
    first: int
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is packed.

    Parameters
    ----------
    record : Record
    values : array, optional
        Its content, if it was not written to a file.
    resumed : bool
        Whether an earlier run packed it.
    """

    record: Record
    values: Frames | None = None
    resumed: bool = False


def plan_shards(clips: tuple[Clip, ...], config: PackConfig, shard_bytes: int) -> list[ShardClips]:
    """Assign clips to shards of ``shard_bytes``, from their lengths in the headers. Warn about clips that end early."""
    _warn_cut(clips)
    plan: list[ShardClips] = []
    first, planned = 0, 0.0
    for number, clip in enumerate(clips):
        planned += clip.seconds * config.bytes_a_second
        if planned >= shard_bytes or number == len(clips) - 1:
            plan.append(ShardClips(len(plan), first, clips[first : number + 1]))
            first, planned = number + 1, 0.0
    return plan


def _warn_cut(clips: Sequence[Clip]) -> None:
    cut = [clip for clip in clips if ends_before(clip.start + clip.seconds, clip.end)]
    if cut:
        first = cut[0]
        warn_audio(
            f"{len(cut)} of {len(clips)} clips end before the end given in the table, so the existing part is used; the"
            f" first, {shown(first.path)}, ends at {first.start + first.seconds:g} s, not at {first.end:g} s"
        )


def pack_shards(
    root: Path,
    shards: Sequence[ShardClips],
    config: PackConfig,
    key: str,
    folder: Path | None,
    workers: int,
    track: Track = silent,
) -> Iterator[WrittenShard]:
    """Pack the clips of shards, in order. Shards that a run of the same job finished are not packed again.

    Parameters
    ----------
    root : Path
        Folder to which the paths of clips are relative.
    key : str
        Identifies the job.
    folder : Path, optional
        Folder to write. None: shards stay in memory.
    workers : int
        Number of threads.
    """
    records = [_finished(folder, shard.number, key) for shard in shards]
    todo = [clip for shard, record in zip(shards, records, strict=True) if record is None for clip in shard.clips]
    results = track(transformed(root, todo, config, workers), len(todo), "packing")
    for shard, finished in zip(shards, records, strict=True):
        if finished is not None:
            yield WrittenShard(finished, resumed=True)
            continue
        record = Record(key)
        numbers = range(shard.first, shard.first + len(shard.clips))
        values = record.accumulate(numbers, islice(results, len(numbers)))
        if folder is None:
            yield WrittenShard(record, np.concatenate([config.empty(), *values]))
        else:
            record.checksum = write_shard(folder, shard.number, values)
            write_record(folder, shard.number, asdict(record))
            yield WrittenShard(record)
    deque(results, maxlen=0)  # requests the end of the iterator, so that the progress shows the last clip as done


def _finished(folder: Path | None, number: int, key: str) -> Record | None:
    """Return the record of a shard that a run of the same job finished; its file is compared with its checksum."""
    return _record_of(finished_shard(folder, number, key))


def stored_record(folder: Path, number: int, key: str) -> Record | None:
    """Return the record of a shard that a run of the same job finished; its file is not read."""
    return _record_of(finished_shard(folder, number, key, verify=False))


def _record_of(found: dict[str, Any] | None) -> Record | None:
    try:
        skipped = [(path, reason) for path, reason in (found or {}).get("skipped", ())]
        return None if found is None else Record(**{**found, "skipped": skipped})
    except (TypeError, ValueError):
        return None


def write_header(folder: Path, corpus: Corpus, records: list[Record], fingerprint: str, config: PackConfig) -> None:
    """Write index and header of a corpus from the records of its shards, which completes its folder.

    Raises
    ------
    DataError
        When no clip could be read.
    """
    header, index = summary(corpus, records, fingerprint, config)
    checksums = [record.checksum for record in records]
    write_summary(folder, (HEADER, describe(header, index)), index.arrays(), checksums)


def summary(corpus: Corpus, records: list[Record], fingerprint: str, config: PackConfig) -> tuple[Header, Index]:
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
        held_out=corpus.held_out,
    )
    return header, index


def _optional_column(texts: list[str]) -> Texts | None:
    return Texts.of(texts) if any(texts) else None


def mean_and_deviation(total: np.ndarray, squares: np.ndarray, count: int) -> Statistics:
    """Return mean and unbiased deviation from float64 sums over ``count`` values."""
    mean = total / count
    variance = np.maximum(squares - count * mean**2, 0.0) / max(count - 1, 1)
    return Statistics(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))
