"""Write a task in the folder layout of X-ARES: tar files of sounds and json, and a file that describes the task.

    NAME/SPLIT-000000.tar (KEY.wav, KEY.json)  NAME/xares-task.json

The json of a clip is {"label": name}, several names joined by ``;``, or a list of events in seconds. `unheard evaluate
--mode xares` reads the folder.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from unheard.audio.waveform import Waveform, from_array, read
from unheard.data.label_table import Labels, read_labels
from unheard.data.partitions import UNFIT, partitions
from unheard.data.splits import assign_folds, published_validation
from unheard.datasets.write_hear_folder import Event, Item, TaskSpec, checked_splits, vocabulary
from unheard.errors import ConfigError, DataError
from unheard.files import replace_folder
from unheard.progress import Track, silent

OWN_TASK = "xares-task.json"
"""File of a task folder that is not one of X-ARES."""

SHARD, FOLDS = 1000, 5  # clips of a tar file, and folds of a table without split and fold; our choice
KEEP_TIME = 0  # of members, so that equal tasks are equal files
JOINED = ";"


def write_xares_folder(
    sheet: TaskSpec, items: Sequence[Item], out: Path, rate: int, *, overwrite: bool = False, track: Track = silent
) -> Path:
    """Write a task below ``out``, atomically.

    Parameters
    ----------
    items : sequence of Item
        Waveforms are computed one after the other while writing.
    rate : int
        Hz.

    Returns
    -------
    Path
        The task's folder.

    Raises
    ------
    ConfigError
        When the folder exists and ``overwrite`` is false or it is no task.
    DataError
        When a label contains ``;`` and clips have several, or the folder cannot be written.
    """
    target = out / sheet.name
    if target.exists() and not (overwrite and (target / OWN_TASK).is_file()):
        raise ConfigError(f"{target} exists; choose another -o, or replace a task with --overwrite")
    labels = vocabulary(items)
    if sheet.multilabel and (odd := [label for label in labels if JOINED in label]):
        raise DataError(f"the label {odd[0]!r} contains {JOINED!r}, which separates labels in this layout; rename it")
    splits = sorted({item.split for item in items}) if sheet.mode == "folds" else ["train", "valid", "test"]

    def write(folder: Path) -> None:
        (folder / OWN_TASK).write_text(json.dumps(_description(sheet, items, splits, labels), indent=2) + "\n", "utf-8")
        for split in splits:
            clips = [item for item in items if item.split == split]
            for first in range(0, len(clips), SHARD):
                part = track(clips[first : first + SHARD], len(clips[first : first + SHARD]), f"{sheet.name}: {split}")
                _write_tar(folder / f"{split}-{first // SHARD:06d}.tar", part, rate, sheet)

    out.mkdir(parents=True, exist_ok=True)
    try:
        replace_folder(target, write)
    except OSError as error:
        raise DataError(f"cannot write the task {target}: {error}; choose a writable folder with free space") from error
    return target


def table_task(table: Path, seconds: float | None = None, seed: int = 0) -> tuple[TaskSpec, list[Item]]:
    """Return the task of a label table: its splits, its folds, or five folds that are assigned here.

    Parameters
    ----------
    seconds : float, optional
        Length to which clips are padded or cut. Default: clips keep their lengths.
    seed : int
        Of assigned folds.

    Raises
    ------
    DataError
        When the table cannot be split, or classes of some clips are not annotated.
    """
    labels = read_labels(table)
    if not labels.annotated().all():
        raise DataError(f"{table}: some classes of some clips are not annotated, which X-ARES cannot express")
    partitions(labels, seed)  # refuses what cannot be trained or tested
    splits = _table_splits(labels, seed)
    mode = "split" if any(labels.split) else "folds"
    sheet = TaskSpec(
        table_name(table), mode, seconds, ("mAP" if labels.multilabel else "top1_acc",), multilabel=labels.multilabel
    )
    items = []
    for clip, split in enumerate(splits):
        stem = re.sub(r"[^\w-]+", "_", labels.paths[clip].stem)
        names = tuple(labels.classes[index] for index in labels.target[np.array([clip])][0].nonzero()[0])
        wav = partial(_table_sound, labels, clip)
        items.append(Item(f"{clip:06d}-{stem}", split, names, wav, labels.files[clip], labels.group[clip]))
    checked_splits(sheet, items, every_class=False)
    return sheet, items


def table_name(table: Path) -> str:
    """Return the name of a table without suffix, or of its folder if the table is called labels."""
    return re.sub(UNFIT, "_", table.stem if table.stem != "labels" else table.resolve().parent.name)


def _table_splits(labels: Labels, seed: int) -> list[str]:
    """Return the split or fold of each clip; a fifth of the training clips validate where no clip does."""
    if not any(labels.split):
        assigned = labels.fold if any(labels.fold) else assign_folds(labels.group_ids(), labels.target, FOLDS, seed)
        number = {name: index for index, name in enumerate(np.unique(assigned).tolist())}
        return [f"fold{number[name]:02d}" for name in np.asarray(assigned).tolist()]
    splits = list(labels.split)
    if "valid" not in splits:
        train = [clip for clip, split in enumerate(splits) if split == "train"]
        classes = [labels.format_labels(row) for row in labels.target[np.array(train)]]
        validates = published_validation(classes, [labels.group[clip] or f"#{clip}" for clip in train])
        for clip, held in zip(train, validates, strict=True):
            splits[clip] = "valid" if held else "train"
    return splits


def _table_sound(labels: Labels, clip: int, rate: int) -> Waveform:
    sound = labels.sound(clip)
    return from_array(*sound, rate) if isinstance(sound, tuple) else read(sound, rate)[0]


def _description(sheet: TaskSpec, items: Sequence[Item], splits: list[str], labels: list[str]) -> dict[str, Any]:
    """Return the fields of the task, see `unheard.evaluation.xares.tasks.XaresTask`."""
    kind = "frames" if sheet.event else "multi" if sheet.multilabel else "single"
    tested = [item for item in items if sheet.mode == "folds" or item.split == "test"]
    metric = {"single": "accuracy", "multi": "mAP", "frames": "segmentf1_macro"}[kind]
    return {
        "title": sheet.name,
        "weight": len(tested),
        "label": "" if sheet.event else "label",
        "folds" if sheet.mode == "folds" else "splits": [f"{split}-" for split in splits],
        "kind": kind,
        "metric": metric,
        "classes": labels,
        "knn": kind == "single",
        "seconds": sheet.seconds if sheet.event else None,
    }


def _write_tar(file: Path, items: Iterator[Item], rate: int, sheet: TaskSpec) -> None:
    with tarfile.open(file, "w") as tar:
        for item in items:
            sound = io.BytesIO()
            soundfile.write(sound, sheet.filled(item.wav(rate), rate), rate, format="WAV", subtype="PCM_16")
            record = json.dumps(_record(item, sheet.event), ensure_ascii=False).encode()
            for ending, content in (("wav", sound.getvalue()), ("json", record)):
                member = tarfile.TarInfo(f"{item.name}.{ending}")
                member.size, member.mtime = len(content), KEEP_TIME
                tar.addfile(member, io.BytesIO(content))


def _record(item: Item, event: bool) -> Any:
    if not event:
        return {"label": JOINED.join(item.labels)}
    events = [each for each in item.events if isinstance(each, Event)]
    return [{"onset": each.start / 1000, "offset": each.end / 1000, "label": each.label} for each in events]
