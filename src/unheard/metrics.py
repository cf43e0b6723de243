"""Scores as plain functions of NumPy arrays.

Classification takes class indices, shape (n,); ranking takes a binary target matrix and a score matrix, both (n, C). All agree with
scikit-learn where it has the same score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard.errors import DataError

Classes = Int[np.ndarray, " n"]
Scores = Float[np.ndarray, "n C"]


def accuracy(truth: Classes, predicted: Classes) -> float:
    """Share of clips whose class was named."""
    _same_length(truth, predicted)
    return float(np.mean(truth == predicted))


def balanced_accuracy(truth: Classes, predicted: Classes) -> float:
    """Mean recall over the classes that occur in ``truth``."""
    _same_length(truth, predicted)
    clips = np.bincount(truth)
    right = np.bincount(truth[predicted == truth], minlength=len(clips))
    return float(np.mean(right[clips > 0] / clips[clips > 0]))


def confusion_matrix(truth: Classes, predicted: Classes, classes: int) -> Int[np.ndarray, "C C"]:
    """Counts of true class (row) against predicted class (column)."""
    _same_length(truth, predicted)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def average_precision(target: Int[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """Area under the precision-recall steps, ties counted as one step; NaN when nothing is positive."""
    return float(average_precisions(target[:, None], score[:, None])[0])


def average_precisions(target: Int[np.ndarray, "n C"], score: Scores) -> Float[np.ndarray, " C"]:
    """`average_precision` of every class, computed at once: the mean, over positive clips, of the precision at their score."""
    positive, _, last = _ranked(target, score)
    precision = np.take_along_axis(np.cumsum(positive, axis=1), last, axis=1) / (last + 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sum(positive * precision, axis=1) / positive.sum(axis=1))


def mean_average_precision(target: Int[np.ndarray, "n C"], score: Scores) -> float:
    """Mean `average_precision` over the classes that occur (mAP)."""
    return _mean_known(average_precisions(target, score))


def roc_auc(target: Int[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """Chance that a positive clip scores above a negative one, ties counted as half; NaN when one side is empty."""
    return float(roc_aucs(target[:, None], score[:, None])[0])


def roc_aucs(target: Int[np.ndarray, "n C"], score: Scores) -> Float[np.ndarray, " C"]:
    """`roc_auc` of every class, computed at once by counting the negatives above each positive clip."""
    positive, first, last = _ranked(target, score)
    negatives = np.pad(np.cumsum(1 - positive, axis=1), ((0, 0), (1, 0)))  # (C, n + 1): among the highest k scores
    above = (np.take_along_axis(negatives, first, axis=1) + np.take_along_axis(negatives, last + 1, axis=1)) / 2
    both = positive.sum(axis=1) * negatives[:, -1]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sum(positive * (negatives[:, -1:] - above), axis=1) / both)


def roc_auc_mean(target: Int[np.ndarray, "n C"], score: Scores) -> float:
    """Mean `roc_auc` over the classes that have both sides."""
    return _mean_known(roc_aucs(target, score))


def d_prime(auc: float) -> float:
    """How far apart two unit-variance normal distributions lie whose ROC has this area: sqrt(2) Phi^-1(auc); infinite at 0 and 1."""
    if math.isnan(auc) or not 0 < auc < 1:
        return math.nan if math.isnan(auc) else math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def percentile_interval(draws: Sequence[float], value: float | None = None) -> tuple[float, float]:
    """The middle 95 % of a bootstrap, bias-corrected where the score itself is given (Efron 1981).

    Corrected, the percentiles move by twice as many deviations as the score is away from the median of the draws, and always hold it: a
    clip that is drawn twice lifts average precision, so that plain percentiles of mAP lie too high. In the difference of two scores on the
    same draws that cancels, and plain percentiles do best (``benchmarks/coverage.py``).

    Parameters
    ----------
    draws : sequence of float
        The score of each round; the interval leaves out what is not finite. NaN where nothing is left.
    value : float, optional
        The score of all clips. NaN where it is.
    """
    drawn = np.array(draws)
    known, normal, shift = drawn[np.isfinite(drawn)], NormalDist(), 0.0
    if not len(known) or (value is not None and math.isnan(value)):
        return math.nan, math.nan
    if value is not None and math.isfinite(value):
        level = np.isclose(drawn, value, rtol=0, atol=1e-9)  # sums of equal scores may differ in their last digits
        below, rounds = float(((drawn < value) & ~level).sum() + level.sum() / 2), int((~np.isnan(drawn)).sum())
        shift = normal.inv_cdf(min(max(below, 0.5), rounds - 0.5) / rounds)
    low, high = np.quantile(known, [normal.cdf(2 * shift + normal.inv_cdf(end)) for end in (0.025, 0.975)]).tolist()
    return (low, high) if value is None else (min(low, value), max(high, value))


def bootstrap_interval(
    score: Callable[[Int[np.ndarray, " n"]], float], clips: int, seed: int, rounds: int = 1000, *, corrected: bool = True
) -> tuple[float, float]:
    """95 % interval of a score when the test clips are drawn again, by `percentile_interval`.

    Parameters
    ----------
    score : callable
        Score of the clips with the given indices. Rounds in which it is NaN are left out.
    clips : int
        How many clips there are; each round draws as many, with replacement.
    seed : int
        Same seed, same interval.
    rounds : int
        1000: the ends then wander by a fortieth of the width (our choice).
    corrected : bool
        For a score; not for a difference of two.

    Examples
    --------
    >>> right = np.array([1, 1, 0, 1])
    >>> low, high = bootstrap_interval(lambda index: float(right[index].mean()), 4, seed=0)
    """
    if clips < 1:
        raise DataError("an interval needs at least one clip, got none")
    rng = np.random.default_rng(seed)
    draws = [score(rng.integers(0, clips, clips)) for _ in range(rounds)]
    return percentile_interval(draws, score(np.arange(clips)) if corrected else None)


def grouped_interval(
    score: Callable[[Int[np.ndarray, " n"]], float], blocks: NDArray[Any], seed: int, rounds: int = 1000, *, corrected: bool = True
) -> tuple[float, float]:
    """`bootstrap_interval` that draws whole groups of clips (Davison and Hinkley 1997, section 3.8).

    Clips of one speaker or kit are not independent, and drawing them one by one gives intervals that are too narrow.

    Parameters
    ----------
    blocks : array of str, (n,)
        The group of each clip; where all differ, clips are drawn.
    """
    groups = together(blocks)
    if len(groups) == len(blocks):
        return bootstrap_interval(score, len(blocks), seed, rounds, corrected=corrected)

    def of_groups(drawn: Int[np.ndarray, " g"]) -> float:
        return score(np.concatenate([groups[group] for group in drawn]))

    return bootstrap_interval(of_groups, len(groups), seed, rounds, corrected=corrected)


def together(blocks: NDArray[Any]) -> list[Int[np.ndarray, " _"]]:
    """Positions of clips of the same group, for each group in the order of their names."""
    number = np.unique(blocks, return_inverse=True)[1]
    return np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])


def wilson_interval(right: int, clips: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share of ``clips`` (Wilson 1927); ``z`` = 1.96 gives 95 %."""
    if clips < 1 or not 0 <= right <= clips:
        raise DataError(f"a share needs 0 <= right <= clips and clips >= 1, got {right} of {clips}")
    share, spread = right / clips, z * z / clips
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / clips + spread / clips / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def _mean_known(values: Float[np.ndarray, " C"]) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else math.nan


def _ranked(target: Int[np.ndarray, "n C"], score: Scores) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """For every class (C, n), from the highest score down: who is positive, and where the clips of equal score begin and end."""
    if target.shape != score.shape:
        raise DataError(f"targets {target.shape} and scores {score.shape} differ in shape; both must be (clips, classes)")
    order = np.argsort(-score.T, axis=1, kind="stable")
    ranked, place = np.take_along_axis(score.T, order, axis=1), np.arange(len(score))
    border = np.ones((score.shape[1], len(score) + 1), bool)
    border[:, 1:-1] = ranked[:, 1:] != ranked[:, :-1]
    first = np.maximum.accumulate(np.where(border[:, :-1], place, 0), axis=1)
    last = np.minimum.accumulate(np.where(border[:, 1:], place, len(score))[:, ::-1], axis=1)[:, ::-1]
    return np.take_along_axis(target.T.astype(np.int64), order, axis=1), first, last


def _same_length(truth: Classes, predicted: Classes) -> None:
    if truth.shape != predicted.shape or not len(truth):
        raise DataError(f"{len(truth)} true and {len(predicted)} predicted classes came; both must be (clips,) with at least one clip")
