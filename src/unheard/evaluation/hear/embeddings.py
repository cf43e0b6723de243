"""Embeddings of a task on disk, in the layout of heareval, so that each tool can score those of the other.

    MODEL/TASK/ SPLIT.embeddings.npy (float32 rows without a header)  SPLIT.embedding-dimensions.json
    SPLIT.target-labels.pkl
                SPLIT.filename-timestamps.json (event tasks)  SPLIT.audio-files.sha256  .done.embeddings
                task_metadata.json  labelvocabulary.csv  SPLIT.json  checksums.json (of all of these, ours)

Batches of an unfinished split are stored in ``SPLIT.parts``, so that an interrupted task can be continued.
"""

from __future__ import annotations

import glob
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray

from unheard.audio.waveform import read
from unheard.errors import AudioError, DataError, ModelError, UnheardError, warn_damaged
from unheard.evaluation.encoders.choose import Encoder
from unheard.evaluation.hear.events import Events, active_labels
from unheard.evaluation.hear.provenance import AUDIO, audio_files, audio_rate, task_files
from unheard.evaluation.hear.rows import shuffled
from unheard.evaluation.hear.task_folder import Task
from unheard.files import (
    FILES,
    atomic_write,
    differing_files,
    file_checksums,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from unheard.progress import Track, silent
from unheard.teachers.hear_module import check_shape, check_times

DONE = ".done.embeddings"
PROVENANCE_FILE = "embedded-by.json"
CHECKSUMS = "checksums.json"
DURATION_TOLERANCE = 0.001  # maximum difference in seconds between a file and the length of the task


def batch_size(task: Task, sample_rate: int) -> int:
    """Return the batch size of heareval, because the embeddings of some models depend on the batch."""
    return 1 if task.seconds is None else max(1, int(0.7 * (120 / task.seconds) * (16000 / sample_rate)))


def embed_task(task: Task, encoder: Encoder, folder: Path, track: Track = silent) -> None:
    """Embed every file of a task into ``folder``, if it is missing there.

    Raises
    ------
    DataError
        When ``folder`` holds embeddings of another model, or embeddings have a wrong shape or are not finite.
    AudioError
        When a file is missing, broken or has the wrong length.
    """
    stamp = {
        "encoder": encoder.identity,
        "sample_rate": encoder.sample_rate,
        "audio": audio_rate(task, encoder.sample_rate),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / PROVENANCE_FILE).is_file() and read_json(
        folder / PROVENANCE_FILE, DataError, "replace the embeddings with --overwrite"
    ) != stamp:
        raise DataError(
            f"{folder} holds embeddings of another model, options or sample rate; choose another -o, or replace them"
            " with --overwrite"
        )
    write_json(folder / PROVENANCE_FILE, stamp)
    if (folder / DONE).is_file():
        return
    audio = {split: audio_files(task, split, encoder.sample_rate) for split in task.splits}
    for name in task_files(task):
        write_bytes(folder / name, (task.folder / name).read_bytes())
    order, size = shuffled(task), batch_size(task, encoder.sample_rate)
    checksums = read_json(folder / CHECKSUMS)[FILES] if (folder / CHECKSUMS).is_file() else {}
    for split in task.splits:
        if f"{split}.embeddings.npy" not in checksums:
            _record_audio(folder, split, audio[split])
            files = list(task.clips[split])
            batches = [files[at : at + size] for at in range(0, len(files), size)]
            for index, names in enumerate(track(batches, len(batches), f"{task.name}, {encoder.name}: {split}")):
                _part(task, encoder, split, names, folder / f"{split}.parts" / f"{index:06d}.npz")
            _assemble(task, split, batches, order[split], folder)
            checksums |= file_checksums(
                folder, [path.name for path in sorted(folder.glob(f"{glob.escape(split)}.*")) if path.is_file()]
            )
            write_json(folder / CHECKSUMS, {FILES: checksums})
    write_json(folder / CHECKSUMS, {FILES: checksums | file_checksums(folder, [PROVENANCE_FILE, *task_files(task)])})
    write_text(folder / DONE, "")


def damaged_files(folder: Path) -> list[str]:
    """Return the files of complete splits that differ from their checksums; heareval writes no checksums."""
    file = folder / CHECKSUMS
    if not file.is_file():
        return [CHECKSUMS] if (folder / PROVENANCE_FILE).is_file() and (folder / DONE).is_file() else []
    try:
        return differing_files(folder, read_json(file)[FILES])
    except DataError:
        return [CHECKSUMS]


def _record_audio(folder: Path, split: str, audio: str) -> None:
    """Record the audio files of a split; delete parts made from other audio."""
    record = folder / f"{split}.{AUDIO}"
    if not record.is_file() or record.read_text(encoding="utf-8") != audio:
        shutil.rmtree(folder / f"{split}.parts", ignore_errors=True)
        write_text(record, audio)


def _part(task: Task, encoder: Encoder, split: str, names: list[str], path: Path) -> None:
    """Embed one batch into a file, unless a valid file exists."""
    if _read_part(path) is not None:
        return
    audio, what = (
        torch.from_numpy(np.stack(_waves(task, encoder, split, names))),
        f"{encoder.name} on {task.name}, {split}/{names[0]}",
    )
    try:
        frames, times = encoder.timestamps(audio) if task.event else (encoder.scenes(audio), torch.zeros(0))
        check_shape(frames, len(names), task.event, what)
        if not bool(torch.isfinite(frames).all()):
            raise DataError(f"{what}: embeddings hold numbers that are not finite")
        if task.event:
            check_times(times, frames, 1000 * audio.shape[1] / encoder.sample_rate, what)
    except UnheardError:
        raise
    except Exception as error:  # third-party modules may raise anything
        raise ModelError(
            f"{what}: the model failed with {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, frames=frames.float().numpy(), times=times.double().numpy())


def _read_part(path: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Read the frames and times of a batch; None if the file is missing or damaged (with a warning)."""
    try:
        with np.load(path) as part:
            return part["frames"], part["times"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, BadZipFile):
        warn_damaged(path)
        return None


def _waves(task: Task, encoder: Encoder, split: str, names: list[str]) -> list[Float32[np.ndarray, " S"]]:
    rate = audio_rate(task, encoder.sample_rate)
    waves = []
    for name in names:
        path = task.folder / str(rate) / split / name
        wav, came = read(path)
        if came != rate:
            raise AudioError(f"{path} has {came} Hz in a folder for {rate} Hz; build the task again")
        if task.seconds is not None and abs(len(wav) / rate - task.seconds) > DURATION_TOLERANCE:
            raise AudioError(
                f"{path} lasts {len(wav) / rate:.3f} s; every clip of this task must last {task.seconds:g} s"
            )
        waves.append(wav if rate == encoder.sample_rate else read(path, encoder.sample_rate)[0])
    longest = max(len(wav) for wav in waves)
    return [np.pad(wav, (0, longest - len(wav))) for wav in waves]


def _assemble(task: Task, split: str, batches: list[list[str]], order: list[str], folder: Path) -> None:
    """Write the rows of a split in order, then delete its parts."""
    parts = folder / f"{split}.parts"
    held: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for index, names in enumerate(batches):
        if (part := _read_part(parts / f"{index:06d}.npz")) is None:
            raise DataError(f"{parts}/{index:06d}.npz was damaged after it was written; embed it again with --resume")
        frames, times = part
        for row, name in enumerate(names):
            held[name] = (
                frames[row] if task.event else frames[row : row + 1],
                times[row] if task.event else np.zeros(1),
            )
    if len({rows.shape[1] for rows, _ in held.values()}) != 1:
        raise DataError(f"{folder}: embeddings of {split} differ in size from clip to clip")
    with atomic_write(folder / f"{split}.embeddings.npy") as unfinished, unfinished.open("wb") as file:
        for name in order:
            file.write(np.ascontiguousarray(held[name][0], np.float32).tobytes())
    labels = [each for name in order for each in _labels(task, split, name, held[name][1])]
    write_bytes(folder / f"{split}.target-labels.pkl", pickle.dumps(labels))
    if task.event:
        stamps = [[str(folder / split / name), float(time)] for name in order for time in held[name][1]]
        write_text(folder / f"{split}.filename-timestamps.json", json.dumps(stamps))
    write_text(
        folder / f"{split}.embedding-dimensions.json", json.dumps([len(labels), next(iter(held.values()))[0].shape[1]])
    )
    shutil.rmtree(parts)


def _labels(task: Task, split: str, name: str, times: NDArray[Any]) -> Iterator[list[str]]:
    """Yield the label names of each row of a file."""
    true = task.clips[split][name]
    if isinstance(true, Events):
        for active in active_labels(true, times, len(task.labels)):
            yield [task.labels[index] for index in np.flatnonzero(active)]
    else:
        yield [task.labels[index] for index in true]
