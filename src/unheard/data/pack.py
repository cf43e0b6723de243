"""Packing: audio to shards in one parallel pass that can be interrupted.

Which clips go into which shard follows from the corpus alone, and clips are written in order whatever thread finished first, so the
bytes do not depend on the number of workers. A finished shard is kept with a small record beside it; a second run goes on behind it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from unheard.audio.frontend import LogMel, LogMelConfig, Statistics
from unheard.audio.waveform import read, stream
from unheard.data.corpus import Clip, Corpus, Skipped
from unheard.data.shards import FORMAT, HEADER, INDEX, Dtype, Frames, Header, Index, SpecStore, describe, open_store, quantise, shard_name
from unheard.errors import AudioError, DataError
from unheard.progress import Track, silent

SHARD_BYTES = 256 * 2**20
"""Planned size of a shard: small enough that little is lost when packing is interrupted (our choice)."""

AHEAD = 16
"""Clips in work or waiting for each worker, which bounds the memory (our choice)."""


@dataclass(frozen=True)
class _Packed:
    """One clip as it is stored, and sums over its frames, band by band."""

    frames: Frames
    total: np.ndarray
    squares: np.ndarray


@dataclass
class _Record:
    """What is known of a shard; kept beside it until the whole corpus is packed."""

    key: str
    """The corpus and the plan it belongs to."""
    clips: list[int] = field(default_factory=list)
    """Numbers of its clips in the corpus."""
    frames: list[int] = field(default_factory=list)
    """Frames of each."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason."""
    total: list[float] = field(default_factory=list)
    """Sum of each band."""
    squares: list[float] = field(default_factory=list)
    """Sum of squares of each band."""
    checksum: str = ""
    """SHA-256 of the shard's file."""

    def gather(self, numbers: Iterable[int], results: Iterable[_Packed | Skipped]) -> Iterator[Frames]:
        """Note every result and give back the frames to store."""
        total, squares = np.zeros(1), np.zeros(1)
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, Skipped):
                self.skipped.append((result.path, result.reason))
                continue
            self.clips.append(number)
            self.frames.append(len(result.frames))
            total, squares = total + result.total, squares + result.squares
            yield result.frames
        self.total, self.squares = total.tolist(), squares.tolist()


def pack(
    corpus: Corpus,
    frontend: LogMelConfig,
    out: str | Path | None = None,
    dtype: Dtype = "float16",
    workers: int | None = None,
    track: Track = silent,
    shard_bytes: int = SHARD_BYTES,
) -> SpecStore:
    """Turn a corpus into packed log-mel.

    Files that cannot be read are skipped and listed in the store. Silence is kept.

    Parameters
    ----------
    corpus : Corpus
    frontend : LogMelConfig
    out : path, optional
        Folder to write; one that holds a part of the same corpus is completed. Default: keep everything in memory.
    dtype : {"float16", "uint8"}
        float16 rounds log-mel to 0.004 at most; uint8 takes half the space, rounds to 0.05, and is enough for pre-training.
    workers : int, optional
        Threads. Default: one a core.
    shard_bytes : int
        Planned size of a shard.

    Raises
    ------
    DataError
        When nothing could be read, the disk is full, or ``out`` holds another corpus.
    """
    fingerprint = _hash(FORMAT, corpus.fingerprint(), asdict(frontend), dtype)
    folder = None if out is None else Path(out)
    if folder is not None and (folder / HEADER).exists():
        store = open_store(folder)
        if store.fingerprint != fingerprint:
            raise DataError(f"{folder} holds another packed corpus; choose another folder, or delete it")
        return store
    if folder is not None and folder.is_dir():
        foreign = [entry.name for entry in folder.iterdir() if not entry.name.lstrip(".").startswith(("shard-", INDEX, HEADER))]
        if foreign:
            raise DataError(f"{folder} holds other files ({foreign[0]}), which a packed corpus would hide; choose a folder of its own")
    plan, key = _plan(corpus.clips, frontend, dtype, shard_bytes), _hash(fingerprint, shard_bytes)
    records = [_finished(folder, number, key) for number in range(len(plan))]
    todo = [corpus.clips[i] for numbers, record in zip(plan, records, strict=True) if record is None for i in numbers]
    results = track(_transformed(corpus.root, todo, LogMel(frontend), dtype, workers or os.cpu_count() or 1), len(todo), "packing")
    shards: list[Frames] = []
    with _writing(folder):
        for number, numbers in enumerate(plan):
            if records[number] is None:
                records[number] = record = _Record(key)
                frames = record.gather(numbers, islice(results, len(numbers)))
                if folder is None:
                    shards.append(np.concatenate([np.empty((0, frontend.n_mels), dtype), *frames]))
                else:
                    _write_shard(folder, number, frames, record)
        deque(results, maxlen=0)  # nothing is left; asked once more, the progress shows the last clip as done
        header, index = _summary(corpus, [record for record in records if record is not None], fingerprint, frontend, dtype)
        if folder is None:
            return SpecStore(header, index, shards)
        _write_summary(folder, header, index, plan)
    return open_store(folder)


def _plan(clips: tuple[Clip, ...], frontend: LogMelConfig, dtype: Dtype, shard_bytes: int) -> list[range]:
    """Which clips go into each shard, from their lengths in the headers."""
    rate = frontend.sample_rate / frontend.hop_size * frontend.n_mels * np.dtype(dtype).itemsize  # bytes a second
    plan, first, planned = [], 0, 0.0
    for number, clip in enumerate(clips):
        planned += clip.seconds * rate
        if planned >= shard_bytes or number == len(clips) - 1:
            plan.append(range(first, number + 1))
            first, planned = number + 1, 0.0
    return plan


def _transformed(root: Path, clips: list[Clip], frontend: LogMel, dtype: Dtype, workers: int) -> Iterator[_Packed | Skipped]:
    """The packed clips in their order, made by threads: decoding, resampling and the transform all let go of the interpreter."""
    waiting: deque[Future[_Packed | Skipped]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for clip in clips:
                waiting.append(pool.submit(_transform, root, clip, frontend, dtype))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _transform(root: Path, clip: Clip, frontend: LogMel, dtype: Dtype) -> _Packed | Skipped:
    """Decode one clip and transform it, in memory that holds a block of sound and the result."""
    path, whole = root / clip.path, clip.start == 0 and clip.end is None
    frames: list[Frames] = []
    total, squares = np.zeros(frontend.config.n_mels), np.zeros(frontend.config.n_mels)
    try:
        blocks = (
            stream(path, frontend.sample_rate) if whole else iter([read(path, frontend.sample_rate, "mix", clip.start, clip.seconds)[0]])
        )
        for spec in frontend.stream(blocks):
            exact = spec.astype(np.float64)
            total += exact.sum(axis=0)
            squares += np.square(exact, out=exact).sum(axis=0)
            frames.append(quantise(spec, dtype))
    except AudioError as error:
        return Skipped(clip.path, str(error))
    return _Packed(np.concatenate(frames), total, squares)


def _write_shard(folder: Path, number: int, frames: Iterable[Frames], record: _Record) -> None:
    """Write a shard, then its record, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()

    def write(place: Path) -> None:
        with place.open("wb") as file:
            for values in frames:
                file.write(values.data)
                digest.update(values.data)

    _replace(folder / shard_name(number), write)
    record.checksum = digest.hexdigest()
    _replace(_record_file(folder, number), lambda place: place.write_text(json.dumps(asdict(record))))


def _finished(folder: Path | None, number: int, key: str) -> _Record | None:
    """The record of a shard that an earlier run of the same job finished."""
    if folder is None:
        return None
    try:
        record = _Record(**json.loads(_record_file(folder, number).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.key == key and (folder / shard_name(number)).is_file() else None


def _summary(corpus: Corpus, records: list[_Record], fingerprint: str, frontend: LogMelConfig, dtype: Dtype) -> tuple[Header, Index]:
    """Header and index of a corpus from the records of its shards."""
    skipped = corpus.skipped + tuple(Skipped(*pair) for record in records for pair in record.skipped)
    clips = [corpus.clips[i] for record in records for i in record.clips]
    if not clips:
        raise DataError(f"{corpus.root}: none of {len(corpus.clips)} clips could be read; the first: {skipped[0].reason}")
    frames = [np.array(record.frames, np.int64) for record in records]
    index = Index(
        shard=np.repeat(np.arange(len(records)), [len(part) for part in frames]),
        offset=np.concatenate([np.cumsum(part) - part for part in frames]),
        frames=np.concatenate(frames),
        path=np.array([clip.path for clip in clips]),
        domain=np.array([clip.domain for clip in clips]),
        start=np.array([clip.start for clip in clips]),
        seconds=np.array([clip.seconds for clip in clips]),
    )
    used = [record for record in records if record.clips]
    total = np.sum([record.total for record in used], axis=0)
    squares = np.sum([record.squares for record in used], axis=0)
    count = int(index.frames.sum())
    scalar = _statistics(total.sum(keepdims=True), squares.sum(keepdims=True), count * frontend.n_mels)
    checksums = tuple(record.checksum for record in records if record.checksum)
    return Header(frontend, dtype, scalar, _statistics(total, squares, count), fingerprint, skipped, checksums), index


def _statistics(total: np.ndarray, squares: np.ndarray, count: int) -> Statistics:
    """Mean and unbiased deviation from sums over ``count`` values."""
    mean = total / count
    variance = np.maximum(squares - count * mean**2, 0.0) / max(count - 1, 1)
    return Statistics(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))


def _write_summary(folder: Path, header: Header, index: Index, plan: list[range]) -> None:
    """Write the index and the header, which makes the corpus complete, and drop the records."""

    def write(place: Path) -> None:
        with place.open("wb") as file:
            np.savez(file, **vars(index))

    _replace(folder / INDEX, write)
    sizes = np.bincount(index.shard, index.frames, minlength=len(plan)).astype(int).tolist()
    _replace(folder / HEADER, lambda place: place.write_text(json.dumps(describe(header, index, sizes), indent=1) + "\n", encoding="utf-8"))
    for number in range(len(plan)):
        _record_file(folder, number).unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path | None) -> Iterator[None]:
    """Turn what the disk refuses into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"{folder}: the disk is full; make room and run the same command again, finished shards are kept"
            raise DataError(message) from error
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, then put it in place; nothing is left of it when that fails."""
    temporary = file.with_name(f".{file.name}.part")
    try:
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _record_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.json"


def _hash(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
