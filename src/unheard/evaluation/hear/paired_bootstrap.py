"""Bootstrap replicates of the score of a HEAR task, for paired comparisons of encoders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from unheard.bootstrap import Statistic
from unheard.evaluation.comparison import TestPart, averaged_replicates
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
    tests = []
    for index, tested in enumerate(runs[0]):
        names = np.array(order[tested.split])
        statistics = [_statistic(task, splits[tested.split], run[index], len(names), zero_division) for run in runs]
        tests.append(TestPart(names, statistics))
    return averaged_replicates(tests)


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
