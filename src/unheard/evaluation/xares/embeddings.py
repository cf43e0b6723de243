"""Embeddings of the splits of a task: computed once for each encoder, and stored.

POOLED/ENCODER/TASK/SPLIT.npz (keys, clips, frames, records, vectors)  SPLIT.json (stamp)
POOLED/ENCODER/TASK/SPLIT.parts/NNNNNN.npz (batches of an unfinished split)
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import DataError
from unheard.evaluation.encoders.choose import Encoder
from unheard.evaluation.xares.clips import Clip, batches, chunks, equal_lengths, padded, read_clips
from unheard.evaluation.xares.shards import SHOWN, count_samples, find_shards, shard_files
from unheard.evaluation.xares.tasks import XaresTask
from unheard.files import FILES, atomic_write, differing_files, file_checksum, file_checksums, read_json, write_json
from unheard.progress import Track, silent

STORED_VERSION = 1  # of the stored embeddings
PART = 32  # batches of a part; our choice


@dataclass
class EmbeddedSplit:
    """Embeddings of a split, in the order in which the head gets them.

    Parameters
    ----------
    keys : list of str
        Key of each row, as read back: key of the clip and number of its batch.
    clips : list of str
        Key of the clip of each row.
    frames : ndarray of int, (n,)
        Number of frames of each row.
    records : list
        Json of each row.
    vectors : Float32[ndarray, "n D"]
        Mean over the frames; in event tasks the frames themselves, one row after the other.
    written : int
        Number of clips or crops that were encoded.
    skipped : list of str
        A line for each sample that could not be used.
    stamp : str
        Hash of all that the embeddings depend on.
    content : str
        Hash of the shards.
    """

    keys: list[str] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)
    frames: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    records: list[Any] = field(default_factory=list)
    vectors: Float32[np.ndarray, "n D"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    written: int = 0
    skipped: list[str] = field(default_factory=list)
    stamp: str = ""
    content: str = ""


@dataclass(frozen=True)
class Embedding:
    """How the splits of a task are embedded.

    Parameters
    ----------
    encoder : Encoder
    exact : bool
        Encode without padding, and keep all crops.
    out : Path
        Folder of the stored embeddings of the task.
    track : Track
    """

    encoder: Encoder
    exact: bool
    out: Path
    track: Track = silent


def embed_split(task: XaresTask, folder: Path, pattern: str, how: Embedding) -> EmbeddedSplit:
    """Return the stored or computed embeddings of a split.

    Raises
    ------
    DataError
        When there are no shards, no usable sample, or the encoder returns a wrong shape.
    """
    shards = find_shards(folder, pattern)
    stamp, content = _stamp(task, shards, how), hashlib.sha256(repr(_contents(shards)).encode()).hexdigest()
    stem = how.out / pattern.strip("-")
    if (before := _stored(stem, stamp)) is not None:
        return replace(before, content=content)
    parts = stem.with_name(f"{stem.name}.parts") / stamp[:12]
    skipped: list[str] = []
    clips = read_clips(shards, how.encoder.sample_rate, task.crop, skipped.append)
    shown = how.track(clips, sum(map(count_samples, shards)), f"{task.name}, {how.encoder.name}: {pattern.strip('-')}")
    runs = chunks(batches(shown, task.encode_batch), PART)
    found = [_part(run, index * PART, task, how, parts / f"{index:06d}.npz") for index, run in enumerate(runs)]
    if not found:
        raise DataError(f"{folder}: no sample of {pattern.strip('-')} can be used; {_first(skipped)}")
    whole = _joined(found, task, how)
    whole.skipped, whole.stamp, whole.content = skipped, stamp, content
    _store(stem, whole)
    shutil.rmtree(parts.parent, ignore_errors=True)
    return whole


def skipped_remark(task: XaresTask, split: str, skipped: Sequence[str]) -> str:
    """Return a line with the number of samples that could not be used, and the first of them."""
    return f"{task.name}: {len(skipped)} samples of {split.strip('-')} are left out: {_first(skipped)}"


def _first(skipped: Sequence[str]) -> str:
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    return "; ".join(skipped[:SHOWN]) + more if skipped else "its shards hold no sample"


def _stamp(task: XaresTask, shards: Sequence[Path], how: Embedding) -> str:
    settings = (task.crop, task.encode_batch, task.kind == "frames", how.exact, STORED_VERSION)
    made_from = (how.encoder.identity, how.encoder.sample_rate, settings, _contents(shards))
    return hashlib.sha256(repr(made_from).encode()).hexdigest()


def _contents(shards: Sequence[Path]) -> list[tuple[str, str]]:
    """Return the name and the hash of every file of the shards."""
    return [
        (path.name, _content(path, path.stat().st_size, path.stat().st_mtime_ns))
        for shard in shards
        for path in shard_files(shard)
    ]


@lru_cache(maxsize=4096)
def _content(path: Path, size: int, changed: int) -> str:
    """Return the hash of a file; size and time of its last change tell versions apart within this process."""
    return file_checksum(path)


def _part(run: Sequence[list[Clip]], first: int, task: XaresTask, how: Embedding, file: Path) -> dict[str, Any]:
    """Return the embeddings of some batches, from their file if that is complete."""
    with suppress(OSError, ValueError, KeyError, BadZipFile, EOFError), np.load(file) as stored:
        return dict(stored)
    keys, clips, frames, records, vectors = [], [], [], [], []
    for index, batch in enumerate(run, start=first):
        for clip, embedded in zip(batch, _encoded(batch, task, how), strict=True):
            keys.append(f"{clip.key}{index}")
            clips.append(clip.key)
            frames.append(len(embedded))
            records.append(json.dumps(clip.record))
            vectors.append(embedded.numpy() if task.kind == "frames" else embedded.mean(dim=0, keepdim=True).numpy())
    if len(widths := {vector.shape[1] for vector in vectors}) > 1:
        raise DataError(f"{how.encoder.name} returned vectors of {_listed(widths)} dimensions; all must have one width")
    part: dict[str, Any] = {
        "keys": np.array(keys),
        "clips": np.array(clips),
        "frames": np.array(frames),
        "records": np.array(records),
        "vectors": np.concatenate(vectors),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as unfinished, unfinished.open("wb") as target:
        np.savez(target, **part)
    return part


def _encoded(batch: list[Clip], task: XaresTask, how: Embedding) -> list[Float32[Tensor, "t D"]]:
    """Return the frames of each clip of a batch."""
    groups = equal_lengths(batch) if how.exact else iter([list(range(len(batch)))])
    found: list[Any] = [None] * len(batch)
    for positions in groups:
        frames, _ = how.encoder.timestamps(padded([batch[at] for at in positions]))
        if frames.ndim != 3 or len(frames) != len(positions) or not frames.shape[1]:
            raise DataError(
                f"{task.name}: {how.encoder.name} returned the shape {tuple(frames.shape)} for {len(positions)} clips;"
                " it must be (clips, time, width)"
            )
        values = frames.detach().float().cpu()
        if not values.isfinite().all():
            raise DataError(f"{task.name}: {how.encoder.name} returned values that are not finite for {batch[0].key}")
        for at, each in zip(positions, values, strict=True):
            found[at] = each
    return found


def _joined(parts: Sequence[dict[str, Any]], task: XaresTask, how: Embedding) -> EmbeddedSplit:
    """Join parts; of consecutive rows with one key only the first is read back, unless exact."""
    widths = {part["vectors"].shape[1] for part in parts}
    if len(widths) > 1:
        raise DataError(f"{how.encoder.name} returned vectors of {_listed(widths)} dimensions; all must have one width")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    keys = joined["keys"]
    kept = np.ones(len(keys), bool)
    if not how.exact:
        kept[1:] = keys[1:] != keys[:-1]
    rows = np.repeat(kept, joined["frames"]) if task.kind == "frames" else kept
    records = [json.loads(record) for record in joined["records"][kept]]
    return EmbeddedSplit(
        keys[kept].tolist(), joined["clips"][kept].tolist(), joined["frames"][kept], records, joined["vectors"][rows],
        len(keys),
    )  # fmt: skip


def _listed(widths: set[int]) -> str:
    return " and ".join(map(str, sorted(widths)))


def _stored(stem: Path, stamp: str) -> EmbeddedSplit | None:
    """Return complete embeddings with this stamp."""
    about, file = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.npz")
    with suppress(OSError, DataError, KeyError, ValueError, BadZipFile):
        values = read_json(about)
        if values["stamp"] == stamp and not differing_files(stem.parent, values[FILES]):
            with np.load(file) as stored:
                records = [json.loads(record) for record in stored["records"]]
                rows = stored["keys"].tolist(), stored["clips"].tolist(), stored["frames"], records, stored["vectors"]
                return EmbeddedSplit(*rows, values["written"], values["skipped"], stamp)
    return None


def _store(stem: Path, split: EmbeddedSplit) -> None:
    file = stem.with_name(f"{stem.name}.npz")
    records = np.array([json.dumps(record) for record in split.records])
    with atomic_write(file) as unfinished, unfinished.open("wb") as target:
        np.savez(target, keys=np.array(split.keys), clips=np.array(split.clips), frames=split.frames, records=records,
                 vectors=split.vectors)  # fmt: skip
    about = {"stamp": split.stamp, "written": split.written, "skipped": split.skipped}
    write_json(stem.with_name(f"{stem.name}.json"), {**about, FILES: file_checksums(stem.parent, [file.name])})


def frames_of(split: EmbeddedSplit, task: XaresTask) -> Iterator[Float32[np.ndarray, "t D"]]:
    """Yield the frames of each row of an event task."""
    assert task.kind == "frames", "other tasks keep one vector a row"
    ends = np.cumsum(split.frames)
    yield from (split.vectors[end - count : end] for end, count in zip(ends, split.frames, strict=True))
