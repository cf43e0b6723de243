"""Provenance of embeddings: copies of the labels and a record of the audio files in the same folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from unheard.errors import AudioError, DataError
from unheard.evaluation.hear.task_folder import METADATA, VOCABULARY, Answers, Task

AUDIO = "audio-files.sha256"


def audio_rate(task: Task, wanted: int) -> int:
    """Return the sample rate to read: the requested one, or else the highest available one, to be resampled.

    Raises
    ------
    DataError
        When the task has no audio.
    """
    rates = task.rates()
    if not rates:
        raise DataError(
            f"{task.folder} holds no audio; it needs a folder such as {wanted}/ or 48000/ with one folder a split"
        )
    return wanted if wanted in rates else rates[-1]


def task_files(task: Task) -> list[str]:
    """Return the names of the files with metadata and labels, which are copied into the folder of the embeddings."""
    return [METADATA, VOCABULARY, *(f"{split}.json" for split in task.splits)]


def audio_files(task: Task, split: str, sample_rate: int) -> str:
    """Return a hash of names, sizes and modification times of the audio files of a split.

    Raises
    ------
    AudioError
        When a file is missing.
    """
    folder, digest = task.folder / str(audio_rate(task, sample_rate)) / split, hashlib.sha256()
    for name in task.clips[split]:
        if not (folder / name).is_file():
            raise AudioError(
                f"{folder / name} is missing, but listed in {split}.json of {task.name}; restore it or build the"
                " task again"
            )
        state = (folder / name).stat()
        digest.update(repr((name, (state.st_size, state.st_mtime_ns))).encode())
    return digest.hexdigest()


def is_stale(task: Task, folder: Path, sample_rate: int) -> bool:
    """Return whether the labels or audio files of a task have changed since it was embedded.

    Audio files are compared by name, size and modification time.

    Raises
    ------
    AudioError
        When a recorded file is missing.
    """
    copies = [(folder / name, task.folder / name) for name in task_files(task)]
    if any(copy.is_file() and copy.read_bytes() != now.read_bytes() for copy, now in copies):
        return True
    records = [(split, folder / f"{split}.{AUDIO}") for split in task.splits]
    return any(
        kept.is_file() and kept.read_text(encoding="utf-8") != audio_files(task, split, sample_rate)
        for split, kept in records
    )


def input_digest(task: Task, folder: Path) -> list[bytes]:
    """Return the inputs that identify embeddings of a model: labels and recorded audio files."""
    records = [folder / f"{split}.{AUDIO}" for split in task.splits]
    return [*_labels(task), *(path.read_bytes() for path in records if path.is_file())]


def clips_digest(task: Task) -> str:
    """Return a hash of the names and labels of the clips of every split, and of the metadata of the task."""
    return hashlib.sha256(repr(_labels(task)).encode()).hexdigest()


def stored_origin(task: Task, folder: Path) -> list[bytes]:
    """Return the inputs that identify stored embeddings: labels, and names, sizes and modification times of files."""
    stored = [path for path in sorted(folder.glob("*")) if path.suffix in (".npy", ".json")]
    return [
        *_labels(task),
        *(repr((path.name, path.stat().st_size, path.stat().st_mtime_ns)).encode() for path in stored),
    ]


def in_stored_order(task: Task, folder: Path) -> Task:
    """Return the task with splits and files in the order stored with the embeddings, which is that of the rows.

    Raises
    ------
    DataError
        When the stored splits, files or labels are not those of the task.
    """
    splits = task.splits
    if (folder / METADATA).is_file():
        splits = tuple(json.loads((folder / METADATA).read_text(encoding="utf-8"))["splits"])
        if sorted(splits) != sorted(task.splits):
            there, here = ", ".join(splits), ", ".join(task.splits)
            raise DataError(f"{folder} holds the splits {there}, and {task.folder} names {here}; embed the task again")
    return replace(task, splits=splits, clips={split: _stored_order(task, folder, split) for split in splits})


def _stored_order(task: Task, folder: Path, split: str) -> dict[str, Answers]:
    clips, copy, now = task.clips[split], folder / f"{split}.json", task.folder / f"{split}.json"
    if not copy.is_file() or copy.read_bytes() == now.read_bytes():
        return clips
    stored, named = (json.loads(path.read_text(encoding="utf-8")) for path in (copy, now))
    if strange := sorted(name for name in stored.keys() | named.keys() if stored.get(name) != named.get(name)):
        raise DataError(
            f"{copy} and {now} differ in the labels of {strange[0]}; embed the task again, or restore the labels"
        )
    return {name: clips[name] for name in stored}


def _labels(task: Task) -> list[bytes]:
    return [(task.folder / name).read_bytes() for name in task_files(task)]
