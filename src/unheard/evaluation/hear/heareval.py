"""The published protocol: what heareval 2021.1.3 does with the embeddings of a task, random number by random number.

Every grid point is fitted on the first round (train, valid); the best one, by its best validation, keeps its weights
there and is fitted again in the rounds of the other folds. Each is tested on its own test split. On one thread and the
same build of torch the scores equal heareval's bit for bit.
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
from unheard.evaluation.hear.tasks import Task
from unheard.model.classification import probabilities
from unheard.progress import Track, silent

UNFOUND = math.nan  # what is undefined where there are events and none was found


@dataclass(frozen=True)
class SplitResult:
    """One test split: its scores by name, with ``loss``, what the fit was chosen by, and the predictions."""

    split: str
    scores: dict[str, float]
    fit: FitResult
    probability: Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class ProtocolResult:
    """Everything a run of the protocol gave.

    Parameters
    ----------
    points : list of Fit
        The grid points in the order they ran; a dropped one has no weights.
    tested : list of Tested
        One a test split.
    """

    points: list[FitResult]
    tested: list[SplitResult]

    @property
    def best(self) -> FitResult:
        """The fit of the chosen grid point on the first round."""
        return self.tested[0].fit


@runtime_checkable
class FitCache(Protocol):
    """Remembers fits, with the state of the random numbers after each, so that an interrupted task can go on."""

    def get(self, index: int) -> FitResult | None:
        """The fit of this number, having put the generator where it left it; None when it is not known."""
        ...

    def put(self, index: int, found: FitResult) -> None:
        """Remember a fit."""
        ...


class NullFitCache:
    """No memory."""

    def get(self, index: int) -> FitResult | None:
        """Nothing."""
        return None

    def put(self, index: int, found: FitResult) -> None:
        """Nothing."""


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
        The embedded splits, in heareval's order of files.
    points : int
        Grid points to try.

    Raises
    ------
    DataError
        When the training rows cannot teach anything: one class only, embeddings that are not finite.
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
    """Refuse embeddings and labels that no classifier can learn from.

    Raises
    ------
    DataError
        When embeddings are not finite, or all clips of a split have the same single class.
    """
    for split, rows in splits.items():
        if not bool(torch.isfinite(rows.x).all()):
            raise DataError(f"{task.name}: embeddings of {split} hold numbers that are not finite; the model gave them")
        if not task.multilabel and len(torch.unique(rows.y.argmax(dim=1))) < 2:
            raise DataError(f"{task.name}: all clips of {split} have the same class; a score of them says nothing")
    for part in parts(task):
        if task.multilabel and not any(bool(splits[name].y.any()) for name in part.train):
            raise DataError(f"{task.name}: nothing that trains for {part.test} has a label; there is nothing to learn")


def test(
    task: Task, part: EvaluationRound, splits: Mapping[str, Rows], found: FitResult, unfound: float
) -> SplitResult:
    """Predict the test split of a round with the best weights and compute every score, as `score_all`."""
    rows = splits[part.test]
    with torch.device("meta"):  # no need to draw weights that are replaced
        head = Head(rows.x.shape[1], len(task.labels), found.hyper)
    head.load_state_dict(found.state, assign=True)
    logits = predict(head, rows.x, found.hyper.batch_size)
    probability = probabilities(logits, task.multilabel).numpy()
    scores = score_all(task, rows, probability, found.postprocessing, unfound)
    return SplitResult(
        part.test, {**scores, "loss": float(loss_of(logits, rows.y, task.multilabel))}, found, probability
    )


def summary(tested: list[SplitResult]) -> dict[str, dict[str, float]]:
    """Mean and sample deviation of every score over the test splits, not weighted by their sizes."""
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
    """Fits of one round after another, those that are remembered taken from memory."""
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
