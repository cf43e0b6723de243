"""Bootstrap replicates of the score of a task, for paired comparisons of encoders.

All encoders use the same resampled files. Each replicate resamples the files of every test split and scores the
predictions of every seed on them. It then resamples the seeds, and takes the mean. Intervals of scores are
bias-corrected (`bootstrap.bc_interval`). Where classes are rare, mAP itself is too high on few files, and no interval
of it is calibrated; percentiles of paired differences are (``benchmarks/coverage.py``). With K seeds the replicates
show (K - 1) / K of the variance between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from unheard.bootstrap import ALPHA, N_RESAMPLES, Statistic, holm, not_ahead, replicates
from unheard.evaluation.hear.events import find_events
from unheard.evaluation.hear.heareval import SplitResult
from unheard.evaluation.hear.rows import Rows
from unheard.evaluation.hear.scores import SCORES
from unheard.evaluation.hear.task_folder import Task


def bootstrap_scores(
    task: Task,
    splits: Mapping[str, Rows],
    order: Mapping[str, Sequence[str]],
    runs: Sequence[Sequence[SplitResult]],
    zero_division: float,
) -> list[float]:
    """Return the first score of a task in each of `N_RESAMPLES` replicates, averaged over test splits and seeds.

    Parameters
    ----------
    order : mapping of str to sequence of str
        Names of the files of each split, in the order of the indices of their rows. Files are resampled by name,
        whatever their order, and whether or not an encoder has rows for all of them.
    runs : sequence of sequence of SplitResult
        One for each seed, with one entry for each test split.
    zero_division : float
        Value of an event score without an estimated event, as in `score_all`.
    """
    of_files, of_seeds = np.random.default_rng(0).spawn(2)
    values = np.zeros((len(runs), N_RESAMPLES))
    for index, tested in enumerate(runs[0]):
        names = np.array(order[tested.split])
        statistics = [_statistic(task, splits[tested.split], run[index], len(names), zero_division) for run in runs]
        of_runs = replicates(lambda counts: np.stack([statistic(counts) for statistic in statistics]), names, of_files)  # noqa: B023
        values += of_runs / len(runs[0])
    seeds = of_seeds.integers(len(runs), size=(len(runs), N_RESAMPLES))
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


def _statistic(task: Task, rows: Rows, tested: SplitResult, files: int, zero_division: float) -> Statistic:
    """Return the first score of a task as a statistic of resampled files; NaN where they have no rows."""
    score, how = SCORES[task.scores[0]], tested.fit.postprocessing
    if how is None:
        of_rows = score.statistic(rows.truth, tested.probability)
        return lambda counts: np.where(counts[rows.file].sum(axis=0) > 0, of_rows(counts[rows.file]), math.nan)
    estimated = find_events(tested.probability, rows.file, rows.times_ms, how)
    of_files = score.statistic(rows.events, estimated, files)
    true, found = (np.bincount(events.file, minlength=files) for events in (rows.events, estimated))

    def of_events(counts: Float[np.ndarray, "k R"]) -> Float[np.ndarray, " R"]:
        values, missed = of_files(counts), (true @ counts > 0) & (found @ counts == 0)
        return np.where(missed & np.isnan(values), zero_division, values)

    return of_events
