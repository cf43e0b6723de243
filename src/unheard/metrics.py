"""Metrics as plain functions of NumPy arrays.

Classification metrics take class indices, shape (n,). Ranking metrics take a binary target matrix and a score matrix,
both (n, C). Values are those of scikit-learn (extra ``eval``), computed for each class, so that classes without
positive clips and partial annotation can be left out. A score that is not finite is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from unheard.errors import DataError, require

Classes = Int[np.ndarray, " n"]
Target = Int[np.ndarray, "n C"]
Scores = Float[np.ndarray, "n C"]
Annotated = Bool[np.ndarray, "n C"]


def accuracy(truth: Classes, predicted: Classes) -> float:
    """Return the fraction of clips with the correct class."""
    _same_length(truth, predicted)
    return float(np.mean(truth == predicted))


def balanced_accuracy(truth: Classes, predicted: Classes) -> float:
    """Return the mean recall over the classes that occur in ``truth``."""
    _same_length(truth, predicted)
    return float(_scikit_learn().recall_score(truth, predicted, labels=np.unique(truth), average="macro"))


def confusion_matrix(truth: Classes, predicted: Classes, classes: int) -> Int[np.ndarray, "C C"]:
    """Return the counts of true class (row) against predicted class (column)."""
    _same_length(truth, predicted)
    return np.asarray(_scikit_learn().confusion_matrix(truth, predicted, labels=np.arange(classes)))


def average_precisions(target: Target, score: Scores, annotated: Annotated | None = None) -> Float[np.ndarray, " C"]:
    """Return the average precision of each class; NaN where no clip is positive, and for classes `only_positive`.

    Parameters
    ----------
    annotated : Bool[ndarray, "n C"], optional
        Clips that count for each class (partial annotation); default all.

    Raises
    ------
    DataError
        When a score that counts is not finite; names the first clip and class.
    """
    found = _of_classes(_scikit_learn().average_precision_score, target, score, annotated, np.any)
    return found if annotated is None else np.where(only_positive(target, annotated), math.nan, found)


def only_positive(target: Target, annotated: Annotated) -> Bool[np.ndarray, " C"]:
    """Return the classes that are annotated in some clips, and in none of them as absent.

    Their average precision would be 1, whatever the scores are.
    """
    absent = annotated & (target <= 0)
    return np.asarray(~annotated.all(axis=0) & annotated.any(axis=0) & ~absent.any(axis=0))


def mean_average_precision(target: Target, score: Scores, annotated: Annotated | None = None) -> float:
    """Return the mean of `average_precisions` over the classes that occur (mAP); NaN where none does."""
    values = average_precisions(target, score, annotated)
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else math.nan


def roc_aucs(target: Target, score: Scores, annotated: Annotated | None = None) -> Float[np.ndarray, " C"]:
    """Return the area under the ROC of each class; NaN where all clips are positive or all negative.

    Parameters and errors as in `average_precisions`.
    """
    return _of_classes(
        _scikit_learn().roc_auc_score, target, score, annotated, lambda positive: len(np.unique(positive)) == 2
    )


def d_prime(auc: float) -> float:
    """Return d': the distance of two unit-variance normal distributions whose ROC has this area, sqrt(2) Phi^-1(auc).

    It is infinite at 0 and 1.
    """
    if math.isnan(auc) or not 0 < auc < 1:
        return math.nan if math.isnan(auc) else math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def wilson_interval(right: float, clips: float, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a fraction of ``clips`` (Wilson 1927); ``z`` = 1.96 gives 95 %."""
    if clips < 1 or not 0 <= right <= clips:
        raise DataError(f"an interval needs 0 <= right <= clips and clips >= 1, got {right} of {clips}")
    share, spread = right / clips, z * z / clips
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / clips + spread / clips / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def grouped_wilson_interval(right: Bool[np.ndarray, " n"], groups: NDArray[Any]) -> tuple[float, float]:
    """Return the 95 % interval of the fraction of right clips, where clips of a group are not independent.

    The number of clips is divided by the design effect (Rao and Scott 1992, Biometrics 48): the variance of the
    fraction over groups, divided by the variance of independent clips. The quantile is that of Student's t for the
    number of groups (Korn and Graubard 1998). If all clips are right, or none, the number of groups replaces the number
    of clips (our choice). If each clip is a group, this is `wilson_interval`.

    Parameters
    ----------
    right : Bool[ndarray, "n"]
    groups : array, (n,)
        The group of each clip.

    Returns
    -------
    tuple of float
        NaN if there is only one group, of several clips.
    """
    number = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes, hits, share = np.bincount(number), np.bincount(number, right), float(right.mean())
    if len(sizes) == len(right):
        return wilson_interval(int(right.sum()), len(right))
    if len(sizes) == 1:
        return math.nan, math.nan
    require("scipy", "eval")
    from scipy.stats import t

    variance = len(sizes) / (len(sizes) - 1) * float(((hits - share * sizes) ** 2).sum()) / len(right) ** 2
    single = share * (1 - share)
    clips = len(sizes) if single == 0 else min(len(right), single / variance if variance > 0 else math.inf)
    return wilson_interval(share * clips, clips, float(t.ppf(0.975, len(sizes) - 1)))


def _of_classes(
    metric: Callable[[Any, Any], float],
    target: Target,
    score: Scores,
    annotated: Annotated | None,
    defined: Callable[[NDArray[Any]], Any],
) -> Float[np.ndarray, " C"]:
    """Return a metric of each class; NaN where it is undefined."""
    if target.shape != score.shape:
        raise DataError(
            f"targets {target.shape} and scores {score.shape} differ in shape; both must be (clips, classes)"
        )
    _check_finite(score, annotated)
    found = np.full(target.shape[1], math.nan)
    for k in range(target.shape[1]):
        rows = slice(None) if annotated is None else annotated[:, k]
        positive, scores = target[rows, k] > 0, score[rows, k]
        if defined(positive):
            found[k] = metric(positive, scores)
    return found


def _check_finite(score: Scores, annotated: Annotated | None) -> None:
    bad = ~np.isfinite(score) if annotated is None else ~np.isfinite(score) & annotated
    if bad.any():
        clip, k = np.argwhere(bad)[0].tolist()
        raise DataError(
            f"{int(bad.sum())} of {bad.size} scores are not finite, the first is {score[clip, k]} for clip {clip} and"
            f" class {k} (both counted from 0); check the weights and the input of the model that computed them"
        )


def _scikit_learn() -> ModuleType:
    require("sklearn", "eval", "scikit-learn")
    return import_module("sklearn.metrics")


def _same_length(truth: Classes, predicted: Classes) -> None:
    if truth.shape != predicted.shape or not len(truth):
        raise DataError(
            f"{len(truth)} true and {len(predicted)} predicted classes; both must be (clips,) with at least one clip"
        )
