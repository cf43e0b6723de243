"""Scores as plain functions of NumPy arrays.

Classification takes class indices, shape (n,); ranking takes a binary target matrix and a score matrix, both (n, C). All agree with
scikit-learn where it has the same score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard.errors import DataError

Classes = Int[NDArray[Any], " n"]
Scores = Float[NDArray[Any], "n C"]


def accuracy(truth: Classes, predicted: Classes) -> float:
    """Share of clips whose class was named."""
    _same_length(truth, predicted)
    return float(np.mean(truth == predicted))


def balanced_accuracy(truth: Classes, predicted: Classes) -> float:
    """Mean recall over the classes that occur in ``truth``."""
    _same_length(truth, predicted)
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def confusion_matrix(truth: Classes, predicted: Classes, classes: int) -> Int[NDArray[Any], "C C"]:
    """Counts of true class (row) against predicted class (column)."""
    _same_length(truth, predicted)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def average_precision(target: Int[NDArray[Any], " n"], score: Float[NDArray[Any], " n"]) -> float:
    """Area under the precision-recall steps, ties counted as one step; NaN when nothing is positive."""
    hits, ranks = _steps(target, score)
    if not len(hits) or not hits[-1]:
        return math.nan
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / ranks))


def mean_average_precision(target: Int[NDArray[Any], "n C"], score: Scores) -> float:
    """Mean `average_precision` over the classes that occur (mAP)."""
    return _over_classes(average_precision, target, score)


def roc_auc(target: Int[NDArray[Any], " n"], score: Float[NDArray[Any], " n"]) -> float:
    """Chance that a positive clip scores above a negative one, ties counted as half; NaN when one side is empty."""
    hits, ranks = _steps(target, score)
    if not len(hits) or not 0 < hits[-1] < ranks[-1]:
        return math.nan
    false = ranks - hits
    true_rate, false_rate = np.concatenate([[0], hits]) / hits[-1], np.concatenate([[0], false]) / false[-1]
    return float(np.sum(np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2))


def roc_auc_mean(target: Int[NDArray[Any], "n C"], score: Scores) -> float:
    """Mean `roc_auc` over the classes that have both sides."""
    return _over_classes(roc_auc, target, score)


def bootstrap_interval(
    score: Callable[[Int[NDArray[Any], " n"]], float], clips: int, seed: int, rounds: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap over clips (Efron 1979): the range a score stays in when the test clips are drawn again.

    Parameters
    ----------
    score : callable
        Score of the clips with the given indices. Rounds in which it is NaN are left out.
    clips : int
        How many clips there are; each round draws as many, with replacement.
    seed : int
        Same seed, same interval.
    rounds : int
        1000: the ends then wander by about a tenth of the width (our choice).
    level : float
        Share of the rounds inside the interval.

    Examples
    --------
    >>> right = np.array([1, 1, 0, 1])
    >>> low, high = bootstrap_interval(lambda index: float(right[index].mean()), 4, seed=0)
    """
    if clips < 1:
        raise DataError("an interval needs at least one clip, got none")
    rng = np.random.default_rng(seed)
    scores = np.array([score(rng.integers(0, clips, clips)) for _ in range(rounds)])
    if np.isnan(scores).all():
        return math.nan, math.nan
    low, high = np.nanquantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson_interval(right: int, clips: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share of ``clips`` (Wilson 1927); ``z`` = 1.96 gives 95 %."""
    if clips < 1 or not 0 <= right <= clips:
        raise DataError(f"a share needs 0 <= right <= clips and clips >= 1, got {right} of {clips}")
    share, spread = right / clips, z * z / clips
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / clips + spread / clips / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def _over_classes(score: Callable[..., float], target: Int[NDArray[Any], "n C"], scores: Scores) -> float:
    if target.shape != scores.shape:
        raise DataError(f"targets {target.shape} and scores {scores.shape} differ in shape; both must be (clips, classes)")
    values = [value for value in (score(target[:, k], scores[:, k]) for k in range(target.shape[1])) if not math.isnan(value)]
    return float(np.mean(values)) if values else math.nan


def _steps(target: Int[NDArray[Any], " n"], score: Float[NDArray[Any], " n"]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positives and clips seen at each threshold, from the highest score down, one entry per distinct score."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.nan) != 0)
    return np.cumsum(target[order])[ends], ends + 1


def _same_length(truth: Classes, predicted: Classes) -> None:
    if truth.shape != predicted.shape or not len(truth):
        raise DataError(f"{len(truth)} true and {len(predicted)} predicted classes came; both must be (clips,) with at least one clip")
