"""Paired comparisons of encoders by bootstrap replicates.

All encoders use the same resampled files. Each replicate resamples the files of every test split and scores the
predictions of every seed on them. It then resamples the seeds, and takes the mean. Intervals of scores are
bias-corrected (`bootstrap.bc_interval`). Where classes are rare, mAP itself is too high on few files, and no interval
of it is calibrated; percentiles of paired differences are (``benchmarks/coverage.py``). With K seeds the replicates
show (K - 1) / K of the variance between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.bootstrap import ALPHA, N_RESAMPLES, Statistic, holm, known, not_ahead, replicates
from unheard.evaluation.report import Result

FEWEST = 6
"""Files from which on a sign test can have a p-value below `ALPHA`."""
BEST, TIED_MARK = "**", "≈"


@dataclass(frozen=True)
class TestPart:
    """A test split: the file of each clip, and one statistic of resampled clips for each seed."""

    __test__ = False

    files: NDArray[Any]
    statistics: Sequence[Statistic]


def averaged_replicates(tests: Sequence[TestPart]) -> list[float]:
    """Return a score in each of `N_RESAMPLES` replicates, averaged over test splits and seeds.

    NaN for less than `FEWEST` files: no difference of so few is significant.
    """
    if len(np.unique(np.concatenate([part.files for part in tests]))) < FEWEST:
        return [math.nan] * N_RESAMPLES
    of_files, of_seeds = np.random.default_rng(0).spawn(2)
    number = len(tests[0].statistics)
    values = np.zeros((number, N_RESAMPLES))
    for part in tests:
        of_runs = replicates(
            lambda counts: np.stack([statistic(counts) for statistic in part.statistics]),  # noqa: B023
            part.files,
            of_files,
        )
        values += of_runs / len(tests)
    seeds = of_seeds.integers(number, size=(number, N_RESAMPLES))
    with np.errstate(invalid="ignore"):
        return [float(value) for value in np.take_along_axis(values, seeds, axis=0).mean(axis=0)]


def significantly_worse(column: Sequence[Sequence[float]], best: int, smaller: bool) -> list[bool]:
    """Return, for each row of replicates, whether it is significantly worse than the best one.

    One-sided p-values of the paired differences are adjusted for the number of rows (Holm 1979) and compared with half
    of `ALPHA`. A replicate in which either score is undefined counts as a tie. The best row was chosen on the same
    files, which no adjustment corrects.

    Parameters
    ----------
    column : sequence of sequence of float
        Replicates of each row, of the same resampled files.
    best : int
        Position of the best row.
    smaller : bool
        Whether less is better.
    """
    ahead = [np.less(column[best], row) if smaller else np.greater(column[best], row) for row in column]
    p_values = [not_ahead(each.astype(np.float64)) for each in ahead]
    others = [row for row in range(len(column)) if row != best]
    adjusted = dict(zip(others, holm([p_values[row] for row in others]), strict=True))
    return [adjusted.get(row, 1.0) <= ALPHA / 2 for row in range(len(column))]


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN where one value is infinite and another minus infinite."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))


def best_of(results: Sequence[Result]) -> Result | None:
    """Return the best result of one task; None if no value is finite."""
    known = [result for result in results if math.isfinite(result.value)]
    if not known:
        return None
    return (min if known[0].smaller else max)(known, key=lambda result: result.value)


def near_best(column: Sequence[Result]) -> list[str]:
    """Return the encoders that are not significantly worse than the best one in one task, including the best."""
    best = best_of(column)
    if best is None:
        return []
    known = [each for each in column if math.isfinite(each.value)]
    worse = significantly_worse([each.replicates for each in known], known.index(best), best.smaller)
    return [each.encoder for each, is_worse in zip(known, worse, strict=True) if not is_worse]


def marked_cells(column: Sequence[Result]) -> dict[str, str]:
    """Return the cell of each encoder for one task: value, interval and mark."""
    best, near = best_of(column), near_best(column)
    texts = {result.encoder: f"{result.value:.3f}{_interval(result)}" for result in column}
    marked = {name: f"{text} {TIED_MARK}" if name in near else text for name, text in texts.items()}
    return marked if best is None else marked | {best.encoder: f"{BEST}{texts[best.encoder]}{BEST}"}


def _interval(result: Result) -> str:
    low, high = known((result.low, result.high))
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
