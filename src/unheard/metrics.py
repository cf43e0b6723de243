"""Scores as plain functions of NumPy arrays.

Classification takes class indices, shape (n,); ranking takes a binary target matrix and a score matrix, both (n, C). All agree with
scikit-learn where it has the same score.
"""

from __future__ import annotations

import math
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
