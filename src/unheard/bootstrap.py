"""Bootstrap confidence intervals and paired comparisons of scores.

A resample takes as many clips as there are, with replacement. Where clips belong to groups, it takes whole groups
(cluster bootstrap, Davison and Hinkley 1997, section 3.8): clips of one speaker or kit are not independent. A resample
is stored as the number of times each clip occurs in it. A `Statistic` computes a score for many resamples at once, so
that ranks and correct answers are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import DataError
from unheard.metrics import only_positive

N_RESAMPLES = 5000  # the ends of an interval then vary by about 2 % of its width (our choice)
ALPHA = 0.05  # two-sided level of a difference
BLOCK = 2**20  # counts that are in memory at once; our choice

Counts = Float[np.ndarray, "n R"]
"""How often each of n clips occurs in each of R resamples."""
Statistic = Callable[[Counts], Float[np.ndarray, " R"]]
"""A score for each resample; NaN where it is undefined."""
ClassStatistic = Callable[[Counts], Float[np.ndarray, "C R"]]
"""A score for each class and resample; NaN where it is undefined."""
Interval = tuple[float | None, float | None]
"""Ends of an interval; None where there is none, because one clip or group was tested."""
UNKNOWN = "not known"
"""Text of an interval that cannot be computed."""
Target = Int[np.ndarray, "n C"]
Scores = Float[np.ndarray, "n C"]


def resample_counts(
    groups: NDArray[Any], seed: int | np.random.Generator, n_resamples: int = N_RESAMPLES
) -> Iterator[Counts]:
    """Yield the counts of all resamples in blocks of columns.

    Parameters
    ----------
    groups : array, (n,)
        The group of each clip. Where all differ, clips are resampled one by one. Groups are numbered in sorted order.
    seed : int or Generator
        The same seed gives the same resamples, whatever the size of a block.

    Raises
    ------
    DataError
        When there is no clip.
    """
    if not len(groups):
        raise DataError("an interval needs at least one clip, got none")
    number = np.unique(groups, return_inverse=True)[1].reshape(-1)
    size, rng = int(number.max()) + 1, np.random.default_rng(seed)
    step = max(1, BLOCK // len(groups))
    for first in range(0, n_resamples, step):
        width = min(step, n_resamples - first)
        sampled = rng.integers(0, size, (width, size)) + np.arange(width)[:, None] * size
        counts = np.bincount(sampled.reshape(-1), minlength=width * size).reshape(width, size)
        yield np.ascontiguousarray(counts.T.astype(np.float32)[number])


def replicates(
    statistic: Callable[[Counts], Float[np.ndarray, "... R"]],
    groups: NDArray[Any],
    seed: int | np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Float[np.ndarray, "... R"]:
    """Return the statistic, or several of them, of every resample. Parameters as in `resample_counts`.

    NaN if all clips are of one group: every resample has the same clips, so they show no variation.
    """
    found = np.concatenate([statistic(counts) for counts in resample_counts(groups, seed, n_resamples)], axis=-1)
    return found if len(np.unique(groups)) > 1 else np.full_like(found, np.nan)


def bc_interval(values: Sequence[float] | Float[np.ndarray, " R"], value: float | None = None) -> tuple[float, float]:
    """Return the 95 % interval of bootstrap replicates, bias-corrected where the score itself is given (Efron 1981).

    The correction moves the percentiles by twice the distance, in standard deviations, of the score from the median of
    the replicates. The interval then holds the score. A clip that occurs twice raises average precision, so that plain
    percentiles of mAP are too high. For a difference of two scores on the same resamples the bias cancels, and plain
    percentiles are calibrated (``benchmarks/coverage.py``).

    Parameters
    ----------
    values : array of float, (R,)
        Replicates that are not finite are left out. NaN is returned where none is left.
    value : float, optional
        The score of all clips. NaN is returned where it is NaN.
    """
    samples = np.asarray(values, np.float64)
    finite, normal, shift = samples[np.isfinite(samples)], NormalDist(), 0.0
    if not len(finite) or (value is not None and math.isnan(value)):
        return math.nan, math.nan
    if value is not None and math.isfinite(value):
        # counts are float32: equal scores may differ in the last digits
        level = np.isclose(samples, value, rtol=0, atol=1e-6)
        below, count = float(((samples < value) & ~level).sum() + level.sum() / 2), int((~np.isnan(samples)).sum())
        shift = normal.inv_cdf(min(max(below, 0.5), count - 0.5) / count)
    low, high = np.quantile(finite, [normal.cdf(2 * shift + normal.inv_cdf(end)) for end in (0.025, 0.975)]).tolist()
    return (low, high) if value is None else (min(low, value), max(high, value))


def known(interval: tuple[float, float]) -> Interval:
    """Return an interval with None for ends that are NaN."""
    low, high = interval
    return None if math.isnan(low) else low, None if math.isnan(high) else high


def interval_text(low: float | None, high: float | None, form: str = "{:.3f} - {:.3f}") -> str:
    """Format an interval."""
    return UNKNOWN if low is None or high is None else form.format(low, high)


def not_ahead(difference: Float[np.ndarray, " R"]) -> float:
    """Return the fraction of resamples whose paired difference is not above 0: the one-sided p-value.

    It is at least 1 / (R + 1).

    An undefined difference counts as not above.
    """
    return float(((~(difference > 0)).sum() + 1) / (len(difference) + 1))


def two_sided(difference: Float[np.ndarray, " R"], units: int | None = None) -> float:
    """Return the two-sided p-value of a paired difference.

    Parameters
    ----------
    difference : Float[ndarray, " R"]
    units : int, optional
        Number of clips or groups, where there may be few. Resamples of few units may all have the same sign, so the
        p-value is at least 2^(1 - units), the smallest one of a sign test: with less than six, nothing is significant.
    """
    smallest = 0.0 if units is None else 2.0 ** (1 - units)
    return min(1.0, max(2 * min(not_ahead(difference), not_ahead(-difference)), smallest))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons (Holm 1979), in the same order.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order, count = np.argsort(p_values, kind="stable"), len(p_values)
    scaled = np.asarray(p_values, np.float64)[order] * (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if count else scaled
    return [float(value) for value in adjusted]


def mean_statistic(values: NDArray[Any]) -> Statistic:
    """Return the statistic "mean of a value of each clip" (n,), for example accuracy from correct answers."""
    row = np.asarray(values, np.float32)
    return lambda counts: _divide(row @ counts, counts.sum(axis=0))


def ratio_statistic(numerator: NDArray[Any], denominator: NDArray[Any]) -> Statistic:
    """Return the statistic "sum of one value over the sum of another"; NaN where the second sum is 0."""
    top, bottom = np.asarray(numerator, np.float32), np.asarray(denominator, np.float32)
    return lambda counts: _divide(top @ counts, bottom @ counts)


def balanced_accuracy_statistic(truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"]) -> Statistic:
    """Return the mean recall over the classes that occur in a resample, see `metrics.balanced_accuracy`."""
    classes = np.unique(truth)
    of_class = (truth == classes[:, None]).astype(np.float32)
    correct = of_class * (truth == predicted)
    return lambda counts: class_mean(_divide(correct @ counts, of_class @ counts))


def class_mean(values: Float[np.ndarray, "C R"], undefined: float = math.nan) -> Float[np.ndarray, " R"]:
    """Return the mean over the classes that have a value; ``undefined`` where none has."""
    there = ~np.isnan(values)
    mean = _divide(np.where(there, values, 0).sum(axis=0), there.sum(axis=0))
    return np.where(np.isnan(mean), undefined, mean)


def average_precisions_statistic(
    target: Target, score: Scores, annotated: Bool[np.ndarray, "n C"] | None = None
) -> ClassStatistic:
    """Return the average precision of every class, see `metrics.average_precisions`.

    It is NaN where a resample has no positive clip, and for classes `metrics.only_positive`.

    For each positive clip precision is a sum of counts over the clips that score at least as high. Clips between two
    positive scores are summed first, so that a class costs one pass over the counts.

    Parameters
    ----------
    annotated : Bool[ndarray, "n C"], optional
        Clips and classes that count; default all.
    """
    parts = [_Ranked(*column, ties=False) for column in _columns(target, score, annotated)]
    undefined = np.zeros(len(parts), bool) if annotated is None else only_positive(target, annotated)

    def of_class(part: _Ranked, counts: Counts) -> Float[np.ndarray, " R"]:
        hits = part.sums(counts, positive=True)
        precision = _divide(hits.cumsum(axis=0), part.sums(counts).cumsum(axis=0), 0.0)
        return _divide((hits * precision).sum(axis=0), hits.sum(axis=0))

    return lambda counts: np.where(undefined[:, None], math.nan, np.stack([of_class(part, counts) for part in parts]))


def roc_aucs_statistic(
    target: Target, score: Scores, annotated: Bool[np.ndarray, "n C"] | None = None
) -> ClassStatistic:
    """Return the area under the ROC of every class, see `metrics.roc_aucs`.

    It is NaN where a resample has only positive or only negative clips.
    """
    parts = [_Ranked(*column, ties=True) for column in _columns(target, score, annotated)]

    def of_class(part: _Ranked, counts: Counts) -> Float[np.ndarray, " R"]:
        hits, all_clips = part.sums(counts, positive=True), part.sums(counts)
        misses = all_clips - hits
        total, above = misses.sum(axis=0), misses.cumsum(axis=0) - misses / 2
        return _divide((hits * (total - above)).sum(axis=0), hits.sum(axis=0) * total)

    return lambda counts: np.stack([of_class(part, counts) for part in parts])


class _Ranked:
    """The clips of one class in bins of falling score.

    Parameters
    ----------
    clips : Int[ndarray, "m"]
        Rows of the counts.
    positive : Bool[ndarray, "m"]
    score : Float[ndarray, "m"]
    ties : bool
        True: clips whose score equals that of a positive clip have a bin of their own, and clips below all positive
        ones are kept. False: a bin holds the clips from one positive score down to the next, and the lowest clips are
        left out.
    """

    def __init__(
        self, clips: Int[np.ndarray, " m"], positive: Bool[np.ndarray, " m"], score: Float[np.ndarray, " m"], ties: bool
    ) -> None:
        thresholds = np.unique(-score[positive])
        bins = np.searchsorted(thresholds, -score)  # number of positive scores that are strictly higher
        self.size = len(thresholds)
        if ties:
            equal = np.isin(-score, thresholds)
            bins, self.size = 2 * bins + equal, 2 * self.size + 1
        kept = bins < self.size
        self._all = self._sorted(clips[kept], bins[kept])
        self._positive = self._sorted(clips[positive], bins[positive])

    def sums(self, counts: Counts, positive: bool = False) -> Float[np.ndarray, "B R"]:
        """Sum the counts of all clips, or of the positive ones, in each bin."""
        if not self.size:
            return np.zeros((0, counts.shape[1]))
        clips, starts = self._positive if positive else self._all
        return F.embedding_bag(clips, torch.from_numpy(counts), starts, mode="sum").numpy()

    def _sorted(self, clips: Int[np.ndarray, " m"], bins: Int[np.ndarray, " m"]) -> tuple[Tensor, Tensor]:
        """Return the clips in the order of their bins, and where each bin starts."""
        order = np.argsort(bins, kind="stable")
        return torch.from_numpy(clips[order]), torch.from_numpy(np.searchsorted(bins[order], np.arange(self.size)))


def _columns(
    target: Target, score: Scores, annotated: Bool[np.ndarray, "n C"] | None
) -> Iterator[tuple[Int[np.ndarray, " m"], Bool[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """Yield the annotated clips of each class: rows, whether positive, and score."""
    if target.shape != score.shape:
        raise DataError(
            f"targets {target.shape} and scores {score.shape} differ in shape; both must be (clips, classes)"
        )
    for k in range(target.shape[1]):
        clips = np.arange(len(target)) if annotated is None else np.flatnonzero(annotated[:, k])
        yield clips, target[clips, k] > 0, score[clips, k]


def _divide(top: NDArray[Any], bottom: NDArray[Any], undefined: float = math.nan) -> NDArray[Any]:
    """Divide as float64; ``undefined`` where the divisor is 0."""
    there = bottom > 0
    return np.where(there, np.divide(top, np.where(there, bottom, 1), dtype=np.float64), undefined)
