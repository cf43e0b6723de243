"""Embedded splits of a task, and how predictions for them are judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unheard.evaluation.hear.events import Events, Postprocessing, find_events, join
from unheard.evaluation.hear.scores import SCORES, score_events
from unheard.evaluation.hear.tasks import Task

SHOWN = 5  # labels of a remark; our choice
Probability = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Rows:
    """One row a clip of a scene task, or a frame of an event task.

    Parameters
    ----------
    x : Float[Tensor, "n D"]
        Embeddings.
    y : Float[Tensor, "n C"]
        1 where a label applies.
    file : Int[ndarray, "n"]
        Which file a row belongs to.
    times_ms : Float[ndarray, "n"]
        Time of a frame; 0 in scene tasks.
    events : Events
        What is true of the files of an event task.
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
        """`y` as whole numbers."""
        return self.y.numpy().astype(np.int64)


@dataclass(frozen=True)
class EvaluationRound:
    """One round of an evaluation: names of the splits that train, choose, and test."""

    train: tuple[str, ...]
    valid: str
    test: str


def parts(task: Task) -> list[EvaluationRound]:
    """The rounds of a task: one, or one for each fold i, which tests, while the next one chooses and the others train."""
    if not task.folds:
        return [EvaluationRound(("train",), "valid", "test")]
    folds = sorted(task.splits)
    turns = [(fold, folds[(i + 1) % len(folds)]) for i, fold in enumerate(folds)]
    return [EvaluationRound(tuple(fold for fold in folds if fold not in turn), turn[1], turn[0]) for turn in turns]


def untrained_labels(task: Task) -> list[str]:
    """A remark for each test split with labels that nothing trains, or with a single one: scores of them say little."""
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
    """The labels that occur in a split."""
    return {
        int(label)
        for answer in task.clips[split].values()
        for label in (answer.label if isinstance(answer, Events) else answer)
    }


def stack(rows: Sequence[Rows]) -> Rows:
    """Rows of several splits one after another."""
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
    """The first score of a task, and the post-processing it is highest with; NaN counts as 0, ties go to the larger
    setting.

    As in heareval the largest value wins even where less is better, as no HEAR task has it.
    """
    name = task.scores[0]
    if not task.event:
        return float(SCORES[name].compute(rows.truth, probability)), None
    found = {how: score_events(name, rows.events, _found(rows, probability, how))[name] for how in task.postprocessing}
    best = max(found, key=lambda how: (0.0 if math.isnan(found[how]) else found[how], how))
    return found[best], best


def score_all(
    task: Task, rows: Rows, probability: Probability, how: Postprocessing | None, unfound: float = math.nan
) -> dict[str, float]:
    """Every score of a task, with the sub-scores of event scores.

    Parameters
    ----------
    unfound : float
        What is undefined because no event was found where there are some: NaN in heareval, 0 in the robust protocol.
    """
    if how is None:
        return {name: float(SCORES[name].compute(rows.truth, probability)) for name in task.scores}
    estimated = _found(rows, probability, how)
    found = {key: value for name in task.scores for key, value in score_events(name, rows.events, estimated).items()}
    missed = len(rows.events) > 0 and not len(estimated)
    return {key: unfound if missed and math.isnan(value) else value for key, value in found.items()}


def _found(rows: Rows, probability: Probability, how: Postprocessing) -> Events:
    return find_events(probability, rows.file, rows.times_ms, how)
