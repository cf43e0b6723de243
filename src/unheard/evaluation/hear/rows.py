"""Embedded splits of a task: reading, and scores of predictions."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import DataError
from unheard.evaluation.hear.events import Events, Postprocessing, active_labels, find_events, join
from unheard.evaluation.hear.provenance import in_stored_order
from unheard.evaluation.hear.scores import SCORES, score_events
from unheard.evaluation.hear.task_folder import Task

SHOWN = 5  # labels of a remark; our choice
Probability = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Rows:
    """Rows of a split: one per clip of a scene task, or one per frame of an event task.

    Parameters
    ----------
    x : Float[Tensor, "n D"]
        Embeddings.
    y : Float[Tensor, "n C"]
        1 where a label applies.
    file : Int[ndarray, "n"]
        Index of the file of each row.
    times_ms : Float[ndarray, "n"]
        Time of each frame; 0 in scene tasks.
    events : Events
        Reference events of an event task.
    """

    x: Float[Tensor, "n D"]
    y: Float[Tensor, "n C"]
    file: Int[np.ndarray, " n"]
    times_ms: Float[np.ndarray, " n"]
    events: Events

    def __len__(self) -> int:
        return len(self.file)

    @property
    def truth(self) -> Int[np.ndarray, "n C"]:
        """`y` as integers."""
        return self.y.numpy().astype(np.int64)


@dataclass(frozen=True)
class EvaluationRound:
    """One round of an evaluation: names of the splits for training, validation and test."""

    train: tuple[str, ...]
    valid: str
    test: str


def parts(task: Task) -> list[EvaluationRound]:
    """Return the rounds of a task: one, or one per fold, with the next fold for validation."""
    if not task.folds:
        return [EvaluationRound(("train",), "valid", "test")]
    folds = sorted(task.splits)
    turns = [(fold, folds[(i + 1) % len(folds)]) for i, fold in enumerate(folds)]
    return [EvaluationRound(tuple(fold for fold in folds if fold not in turn), turn[1], turn[0]) for turn in turns]


def untrained_labels(task: Task) -> list[str]:
    """Return a warning for each test split with labels missing from training, or with a single label."""
    held = {split: _labels(task, split) for split in task.splits}
    found = []
    for part in parts(task):
        new = held[part.test] - set().union(*(held[split] for split in part.train))
        names = ", ".join(sorted(task.labels[label] for label in new)[:SHOWN])
        if new:
            more = f" and {len(new) - SHOWN} more" if len(new) > SHOWN else ""
            found.append(f"{task.name}: no training file has the label {names}{more}, which {part.test} has")
        if len(held[part.test]) == 1 and len(task.labels) > 1:
            found.append(f"{task.name}: the files of {part.test} have one label of {len(task.labels)}")
    return found


def _labels(task: Task, split: str) -> set[int]:
    """Return the labels that occur in a split."""
    return {
        int(label)
        for answer in task.clips[split].values()
        for label in (answer.label if isinstance(answer, Events) else answer)
    }


def stack(rows: Sequence[Rows]) -> Rows:
    """Concatenate the rows of several splits."""
    if len(rows) == 1:
        return rows[0]
    shifts = np.cumsum([0, *(int(part.file.max(initial=-1)) + 1 for part in rows[:-1])])
    moved = [
        Events(part.events.file + shift, part.events.label, part.events.start, part.events.end)
        for part, shift in zip(rows, shifts, strict=True)
    ]
    return Rows(
        torch.cat([part.x for part in rows]), torch.cat([part.y for part in rows]),
        np.concatenate([part.file + shift for part, shift in zip(rows, shifts, strict=True)]),
        np.concatenate([part.times_ms for part in rows]), join(moved),
    )  # fmt: skip


def score_and_tune(task: Task, rows: Rows, probability: Probability) -> tuple[float, Postprocessing | None]:
    """Return the first score of a task, and the post-processing with the highest score.

    NaN counts as 0, and ties select the larger setting. As in heareval, the largest value wins for every score. The
    score of probabilities that are not finite is NaN: that of a classifier whose training diverged.
    """
    name = task.scores[0]
    if not np.isfinite(probability).all():
        return math.nan, task.postprocessing[0] if task.event else None
    if not task.event:
        return float(SCORES[name].compute(rows.truth, probability)), None
    found = {how: score_events(name, rows.events, _found(rows, probability, how))[name] for how in task.postprocessing}
    best = max(found, key=lambda how: (0.0 if math.isnan(found[how]) else found[how], how))
    return found[best], best


def score_all(
    task: Task, rows: Rows, probability: Probability, how: Postprocessing | None, unfound: float = math.nan
) -> dict[str, float]:
    """Return every score of a task, with the sub-scores of event scores.

    Parameters
    ----------
    unfound : float
        Value of scores that are undefined because no event was detected: NaN in heareval, 0 in the robust protocol.
    """
    if how is None:
        return {name: float(SCORES[name].compute(rows.truth, probability)) for name in task.scores}
    estimated = _found(rows, probability, how)
    found = {key: value for name in task.scores for key, value in score_events(name, rows.events, estimated).items()}
    missed = len(rows.events) > 0 and not len(estimated)
    return {key: unfound if missed and math.isnan(value) else value for key, value in found.items()}


def _found(rows: Rows, probability: Probability, how: Postprocessing) -> Events:
    return find_events(probability, rows.file, rows.times_ms, how)


def shuffled(task: Task) -> dict[str, list[str]]:
    """Return the files of every split in the order of their rows, shuffled by one generator as in heareval."""
    generator = random.Random(0)
    files = {split: list(task.clips[split]) for split in task.splits}
    for names in files.values():
        generator.shuffle(names)
    return files


def read_splits(folder: Path, task: Task) -> dict[str, Rows]:
    """Read the rows of every split from a folder of embeddings, written by this library or by heareval.

    Raises
    ------
    DataError
        When a file is missing, or the stored rows or labels do not match the task.
    """
    try:
        order = file_order(folder, task)
        found = {split: _rows(folder, task, split, order[split]) for split in task.splits}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{folder} holds no complete embeddings of {task.name} ({error}); embed the task again"
        ) from error
    sizes = {split: rows.x.shape[1] for split, rows in found.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"{folder}: embeddings of the splits differ in size, {sizes}; all must have the same size")
    return found


def file_order(folder: Path, task: Task) -> dict[str, list[str]]:
    """Return the file names of each split in the order of the rows of a folder.

    Raises
    ------
    DataError
        When the labels stored there are not those of the task.
    """
    return shuffled(in_stored_order(task, folder))


def _rows(folder: Path, task: Task, split: str, order: list[str]) -> Rows:
    count, size = json.loads((folder / f"{split}.embedding-dimensions.json").read_text(encoding="utf-8"))
    x = np.fromfile(folder / f"{split}.embeddings.npy", np.float32).reshape(count, size)
    position = {name: index for index, name in enumerate(order)}
    none = np.zeros(0)
    if not task.event:
        if count != len(order):
            raise ValueError(f"{split} has {count} rows for {len(order)} files")
        y = np.zeros((count, len(task.labels)), np.float32)
        for row, name in enumerate(order):
            y[row, np.asarray(task.clips[split][name])] = 1
        empty = Events(none.astype(np.int64), none.astype(np.int64), none, none)
        return Rows(torch.from_numpy(x), torch.from_numpy(y), np.arange(count), np.zeros(count), empty)
    stamps = json.loads((folder / f"{split}.filename-timestamps.json").read_text(encoding="utf-8"))
    names = [os.path.basename(path) for path, _ in stamps]  # noqa: PTH119 - a Path for each of many frames takes seconds
    if count != len(stamps) or not set(names) <= set(position):
        raise ValueError(f"{split} has {count} rows and {len(stamps)} times, or times of unknown files")
    file, times = np.array([position[name] for name in names]), np.array([time for _, time in stamps], float)
    return Rows(torch.from_numpy(x), *_event_targets(task, split, order, file, times))


def _event_targets(
    task: Task, split: str, order: list[str], file: NDArray[Any], times: NDArray[Any]
) -> tuple[Tensor, NDArray[Any], NDArray[Any], Events]:
    """Return the labels of each frame, and the events of the files that have frames."""
    y, found = np.zeros((len(file), len(task.labels)), np.float32), []
    for index in np.unique(file):
        events = task.clips[split][order[index]]
        if isinstance(events, Events):
            mine = file == index
            y[mine] = active_labels(events, times[mine], len(task.labels))
            found.append(Events(np.full(len(events), index), events.label, events.start, events.end))
    return torch.from_numpy(y), file, times, join(found)
