"""How far a score may be chance: test files drawn again, the same ones for every encoder, so that encoders are compared in pairs.

Each round draws as many files of every test split as there are, with replacement, and scores every seed's answers on them; then as many
seeds as there are, and takes the mean. Intervals of scores are bias-corrected (`metrics.percentile_interval`). Where classes are rare mAP
itself leans upwards on few files, and no interval of it is sure to hold the true one; differences of two encoders, round by round, are
held by their percentiles (`benchmarks.coverage`). With few seeds the seeds' share is somewhat too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from unheard.evaluation.heareval import Tested
from unheard.evaluation.rows import Rows, score_all
from unheard.evaluation.tasks import Task
from unheard.metrics import percentile_interval

ROUNDS = 200  # the ends of an interval then wander by a tenth of its width (our choice)


def draw(task: Task, splits: Mapping[str, Rows], order: Mapping[str, Sequence[str]], runs: Sequence[Sequence[Tested]]) -> list[float]:
    """The first score of a task in each of `ROUNDS` rounds: mean over the test splits and the drawn seeds.

    Parameters
    ----------
    order : mapping of str to sequence of str
        Names of the files of each split, as their rows count them; which names a round draws does not depend on their order.
    runs : sequence of sequence of Tested
        One a seed, with one entry a test split.
    """
    alone, name = replace(task, scores=task.scores[:1]), task.scores[0]
    files = {tested.split: _by_name(splits[tested.split], order[tested.split]) for tested in runs[0]}
    of_files, of_seeds = np.random.default_rng(0).spawn(2)
    values = np.empty((ROUNDS, len(runs)))
    for row in values:
        drawn = {split: splits[split].files(of_files.choice(known, len(known))) for split, known in files.items()}
        for seed, run in enumerate(runs):
            scores = [score_all(alone, drawn[t.split][1], t.probability[drawn[t.split][0]], t.fit.how)[name] for t in run]
            row[seed] = mean(scores)
    seeds = of_seeds.integers(len(runs), size=values.shape)
    return [mean(each) for each in np.take_along_axis(values, seeds, axis=1).tolist()]


def behind(draws: Sequence[float], best: Sequence[float], smaller: bool) -> bool:
    """Whether a score is worse than the best beyond chance: in all but the lowest 2.5 % of the paired rounds.

    Parameters
    ----------
    smaller : bool
        Whether less is better.
    """
    with np.errstate(invalid="ignore"):
        ahead = np.subtract(draws, best) if smaller else np.subtract(best, draws)
    return percentile_interval(ahead.tolist())[0] > 0


def mean(values: Sequence[float]) -> float:
    """The mean; NaN where one value is infinite and another minus infinite."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))


def _by_name(rows: Rows, order: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The files that have rows, in the order of their names."""
    return np.array(sorted(np.unique(rows.file), key=lambda file: order[file]))
