"""The published protocol: the computations of heareval 2021.1.3 on the embeddings of a task, with its random numbers.

Every grid point is fitted in the first round (train, valid), and the one with the best validation is selected. It keeps
its weights of the first round and is fitted again in the rounds of the other folds. Each fit is scored on the test
split of its round. On one thread and with the same build of torch, the scores equal those of heareval bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from unheard.errors import DataError
from unheard.evaluation.hear.fit import FitResult, fit, new_head, predict, smaller_is_better
from unheard.evaluation.hear.head import GRID_POINTS, SEED, Head, HyperParams, grid, loss_of
from unheard.evaluation.hear.rows import EvaluationRound, Rows, parts, score_all, stack
from unheard.evaluation.hear.task_folder import Task
from unheard.model.classification import probabilities
from unheard.progress import Track, silent

UNFOUND = math.nan  # value of undefined scores if there are events and none was detected


@dataclass(frozen=True)
class SplitResult:
    """Result on one test split: scores by name, including ``loss``, the fit, and the predicted probabilities."""

    split: str
    scores: dict[str, float]
    fit: FitResult
    probability: Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class ProtocolResult:
    """Result of the protocol on one task.

    Parameters
    ----------
    points : list of FitResult
        Fits of the grid points in the order in which they ran.
    tested : list of SplitResult
        One for each test split.
    """

    points: list[FitResult]
    tested: list[SplitResult]

    @property
    def best(self) -> FitResult:
        """The fit of the selected grid point in the first round."""
        return self.tested[0].fit


@runtime_checkable
class FitCache(Protocol):
    """Store of fits, with the state of the random numbers after each one, to continue an interrupted task."""

    def get(self, index: int) -> FitResult | None:
        """Return a fit and restore the state of the generator after it; None if it is not stored."""
        ...

    def put(self, index: int, found: FitResult) -> None:
        """Store a fit."""
        ...


class NullFitCache:
    """Cache that stores nothing."""

    def get(self, index: int) -> FitResult | None:
        """Return None."""
        return None

    def put(self, index: int, found: FitResult) -> None:
        """Do nothing."""


def evaluate(
    task: Task,
    splits: Mapping[str, Rows],
    points: int = GRID_POINTS,
    memory: FitCache | None = None,
    track: Track = silent,
) -> ProtocolResult:
    """Fit and test one task.

    Parameters
    ----------
    splits : mapping of str to Rows
        Embeddings and labels of each split, with files in the order of heareval.
    points : int
        Number of grid points.

    Raises
    ------
    DataError
        When the training rows are unusable: one class only, or embeddings that are not finite.
    """
    check(task, splits)
    rounds, hypers = parts(task), grid(task, points)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        jobs = track([(rounds[0], hyper) for hyper in hypers], len(hypers), f"{task.name}: grid")
        tried = list(_fits(jobs, 0, task, splits, memory or NullFitCache()))
        sign = -1.0 if smaller_is_better(task) else 1.0
        best = max(tried, key=lambda found: sign * found.score)  # the earliest of equals
        folds = track([(part, best.hyper) for part in rounds[1:]], len(rounds) - 1, f"{task.name}: folds")
        fits = [best, *_fits(folds, len(hypers), task, splits, memory or NullFitCache())]
        return ProtocolResult(
            tried, [test(task, part, splits, found, UNFOUND) for part, found in zip(rounds, fits, strict=True)]
        )


def check(task: Task, splits: Mapping[str, Rows]) -> None:
    """Check that a classifier can be trained on the embeddings and labels.

    Raises
    ------
    DataError
        When embeddings are not finite, or all clips of a split have the same single class.
    """
    for split, rows in splits.items():
        if not bool(torch.isfinite(rows.x).all()):
            raise DataError(f"{task.name}: embeddings of {split} hold numbers that are not finite; check the model")
        if not task.multilabel and len(torch.unique(rows.y.argmax(dim=1))) < 2:
            raise DataError(f"{task.name}: all clips of {split} have the same class; a score needs at least two")
    for part in parts(task):
        if task.multilabel and not any(bool(splits[name].y.any()) for name in part.train):
            raise DataError(f"{task.name}: no training clip of the round that tests {part.test} has a label")


def test(
    task: Task, part: EvaluationRound, splits: Mapping[str, Rows], found: FitResult, unfound: float
) -> SplitResult:
    """Predict the test split of a round with the best weights, and compute every score with `score_all`."""
    rows = splits[part.test]
    with torch.device("meta"):  # the weights are replaced, so they are not initialised
        head = Head(rows.x.shape[1], len(task.labels), found.hyper)
    head.load_state_dict(found.state, assign=True)
    logits = predict(head, rows.x, found.hyper.batch_size)
    probability = probabilities(logits, task.multilabel).numpy()
    scores = score_all(task, rows, probability, found.postprocessing, unfound)
    return SplitResult(
        part.test, {**scores, "loss": float(loss_of(logits, rows.y, task.multilabel))}, found, probability
    )


def summary(tested: list[SplitResult]) -> dict[str, dict[str, float]]:
    """Return the mean and sample deviation of every score over the test splits, not weighted by their sizes."""
    names = tested[0].scores
    values = {name: np.array([each.scores[name] for each in tested]) for name in names}
    with np.errstate(invalid="ignore"):
        return {
            name: {"mean": float(found.mean()), "std": float(found.std(ddof=1)) if len(found) > 1 else 0.0}
            for name, found in values.items()
        }


def _fits(
    jobs: Iterable[tuple[EvaluationRound, HyperParams]],
    start: int,
    task: Task,
    splits: Mapping[str, Rows],
    memory: FitCache,
) -> Iterable[FitResult]:
    """Yield the fits of all jobs in order, those in the cache from there."""
    train: tuple[EvaluationRound, Rows] | None = None
    for index, (part, hyper) in enumerate(jobs, start):
        if train is None or train[0] != part:
            train = part, stack([splits[name] for name in part.train])
        found = memory.get(index)
        if found is None:
            rows = train[1]
            found = fit(new_head(rows.x.shape[1], len(task.labels), hyper), task, rows, splits[part.valid], hyper)
            memory.put(index, found)
        yield found
