"""Write a task in the folder layout of hear-preprocess, which HEAR evaluators read.

    NAME-VERSION-MODE/task_metadata.json  labelvocabulary.csv  SPLIT.json  RATE/SPLIT/FILE.wav

The folder also has ``labels.csv``: the same clips at the lowest rate for `unheard probe` and `unheard finetune`, with a
column source.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float32

from unheard.audio.waveform import Waveform
from unheard.errors import ConfigError, DataError
from unheard.files import write_table
from unheard.progress import Track, silent

METADATA = "task_metadata.json"
COLUMNS = ("path", "label", "split", "fold", "group", "source")
RATES = (16000, 22050, 32000, 44100, 48000)
"""Sample rates in Hz that the HEAR API allows."""


@dataclass(frozen=True)
class Event:
    """A sound event within a clip; start and end in milliseconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Item:
    """One clip of a task.

    Parameters
    ----------
    name : str
        File name without suffix, unique in the task.
    split : str
        train, valid or test, or fold00 and so on.
    events : tuple of str or of Event
        Labels or events of the clip.
    wav : callable
        Function from a sample rate in Hz to the waveform, (S,), of any length.
    source, group : str
        The file it was made from, and its group, which must be on one side only.
    """

    name: str
    split: str
    events: tuple[str, ...] | tuple[Event, ...]
    wav: Callable[[int], Waveform]
    source: str = ""
    group: str = ""

    @property
    def labels(self) -> list[str]:
        """Return the labels of the clip, sorted, each once."""
        return sorted({each.label if isinstance(each, Event) else each for each in self.events})


@dataclass(frozen=True)
class TaskSpec:
    """Properties of all clips of a task.

    Parameters
    ----------
    name : str
        With underscores; the folder name joins it with version and mode by hyphens.
    mode : str
        "split" (train, valid, test) or "folds".
    seconds : float or None
        Every clip is padded with silence or cut to this length; None: clips keep their lengths.
    scores : tuple of str
        The first is the primary score.
    event, multilabel : bool
    notes : dict
        More entries of the metadata; readers ignore unknown entries.
    """

    name: str
    mode: str
    seconds: float | None
    scores: tuple[str, ...]
    event: bool = False
    multilabel: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    version: str = "v1"

    @property
    def folder(self) -> str:
        """Return the name of the task's folder."""
        return f"{self.name}-{self.version}-{self.mode}"

    def filled(self, wav: Waveform, rate: int) -> Float32[np.ndarray, " R"]:
        """Return a clip of exactly ``seconds``, between -1 and 1."""
        samples = len(wav) if self.seconds is None else round(self.seconds * rate)
        filled = np.zeros(samples, np.float32)
        filled[: min(samples, len(wav))] = wav[:samples]
        return filled.clip(-1, 1)


def write_folder(
    sheet: TaskSpec,
    items: Sequence[Item],
    out: Path,
    rates: Sequence[int],
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> Path:
    """Write a task below ``out``, atomically.

    Parameters
    ----------
    items : sequence of Item
        Waveforms are computed one after the other while writing.
    rates : sequence of int
        Some of `RATES`; one folder of wavs for each.

    Returns
    -------
    Path
        The task's folder.

    Raises
    ------
    ConfigError
        For other rates, or when the folder exists and ``overwrite`` is false or it is no task.
    DataError
        When a class is missing from a split, two clips share a name, or the folder cannot be written.
    """
    if not rates or not set(rates) <= set(RATES):
        raise ConfigError(f"sample rates {list(rates)} are not supported; choose from {', '.join(map(str, RATES))} Hz")
    target = out / sheet.folder
    if target.exists() and not (overwrite and (target / METADATA).is_file()):
        raise ConfigError(f"{target} exists; choose another -o, or replace a task with --overwrite")
    splits = checked_splits(sheet, items)
    unfinished = out / f".{sheet.folder}.part"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write_texts(sheet, items, splits, unfinished, min(rates))
        for item in track(items, len(items), f"{sheet.folder}: sounds"):
            for rate in rates:
                path = unfinished / str(rate) / item.split / f"{item.name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sheet.filled(item.wav(rate), rate), rate, subtype="PCM_16")
        if target.exists():
            shutil.rmtree(target)
        os.replace(unfinished, target)
    except OSError as error:
        raise DataError(f"cannot write the task {target}: {error}; choose a writable folder with free space") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def checked_splits(sheet: TaskSpec, items: Sequence[Item], every_class: bool = True) -> list[str]:
    """Return the splits in HEAR's order.

    Raises
    ------
    DataError
        When two clips share a name, or a split lacks a class and ``every_class`` is true.
    """
    named = {item.split for item in items}
    splits = sorted(named) if sheet.mode == "folds" else ["train", "valid", "test"]
    if len({item.name for item in items}) != len(items):
        raise DataError(f"two clips of task {sheet.name} have the same name; names must be unique in the whole task")
    for split in splits if every_class else []:
        there = {label for item in items if item.split == split for label in item.labels}
        if lacking := [label for label in vocabulary(items) if label not in there]:
            raise DataError(
                f"split {split} of task {sheet.name} has no clip of {', '.join(lacking)}; fetch all of its packages, or"
                " choose another mode"
            )
    return splits


def vocabulary(items: Iterable[Item]) -> list[str]:
    """Return the labels, sorted as numbers if all are numbers, else as text."""
    labels = {label for item in items for label in item.labels}
    return sorted(
        labels, key=(lambda label: (int(label), "")) if all(map(str.isdigit, labels)) else lambda label: (0, label)
    )


def _write_texts(sheet: TaskSpec, items: Sequence[Item], splits: list[str], folder: Path, rate: int) -> None:
    metadata = {
        "task_name": sheet.name,
        "version": sheet.version,
        "default_mode": sheet.mode,
        "mode": sheet.mode,
        "embedding_type": "event" if sheet.event else "scene",
        "prediction_type": "multilabel" if sheet.multilabel or sheet.event else "multiclass",
        "split_mode": "presplit_kfold" if sheet.mode == "folds" else "trainvaltest",
        "splits": splits,
        "nfolds": len(splits) if sheet.mode == "folds" else None,
        "sample_duration": sheet.seconds,
        "evaluation": list(sheet.scores),
        **sheet.notes,
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    labels = [{"idx": str(index), "label": label} for index, label in enumerate(vocabulary(items))]
    write_table(folder / "labelvocabulary.csv", ("idx", "label"), labels)
    for split in splits:
        events = {f"{item.name}.wav": [_plain(each) for each in item.events] for item in items if item.split == split}
        (folder / f"{split}.json").write_text(json.dumps(events, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_table(folder / "labels.csv", COLUMNS, [_row(item, rate, sheet.mode == "folds") for item in items])


def _plain(labels: str | Event) -> str | dict[str, str | float]:
    return {"label": labels.label, "start": labels.start, "end": labels.end} if isinstance(labels, Event) else labels


def _row(item: Item, rate: int, folds: bool) -> dict[str, str]:
    path, label = f"{rate}/{item.split}/{item.name}.wav", "|".join(item.labels)
    side = {"fold": item.split} if folds else {"split": item.split}
    return {
        **dict.fromkeys(COLUMNS, ""),
        "path": path,
        "label": label,
        **side,
        "group": item.group,
        "source": item.source,
    }
