"""How far a score may be chance: test files drawn again, the same ones for every encoder, so that encoders are compared in pairs.

Each round draws as many files of every test split as there are, with replacement, and scores every seed's answers on them; then as many
seeds as there are, and takes the mean. Intervals of scores are bias-corrected (`metrics.percentile_interval`). Where classes are rare mAP
itself leans upwards on few files, and no interval of it is sure to hold the true one; differences of two encoders, round by round, are
held by their percentiles (`benchmarks.coverage`). Of K seeds the draws show (K - 1) / K of the variance that seeds bring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from unheard.evaluation.heareval import Tested
from unheard.evaluation.rows import Rows, score_all
from unheard.evaluation.tasks import Task
from unheard.progress import Track, silent

ROUNDS = 200  # the ends of an interval then wander by a twentieth of its width (our choice)
CHANCE = 0.025  # of taking a given row that is as good for a worse one: one side of a 95 % interval


def draw(
    task: Task,
    splits: Mapping[str, Rows],
    order: Mapping[str, Sequence[str]],
    runs: Sequence[Sequence[Tested]],
    unfound: float,
    track: Track = silent,
) -> list[float]:
    """The first score of a task in each of `ROUNDS` rounds: mean over the test splits and the drawn seeds.

    Parameters
    ----------
    order : mapping of str to sequence of str
        Names of the files of each split, as their rows count them. A round draws the same names whatever their order, and whether or not
        an encoder has rows for all of them.
    runs : sequence of sequence of Tested
        One a seed, with one entry a test split.
    unfound : float
        As in `score_all`.
    """
    alone = replace(task, scores=task.scores[:1])
    files = {tested.split: np.argsort(np.array(order[tested.split])) for tested in runs[0]}
    of_files, of_seeds = np.random.default_rng(0).spawn(2)
    values = np.empty((ROUNDS, len(runs)))
    for row in track(values, ROUNDS, f"{task.name}: draws"):
        drawn = {split: splits[split].files(of_files.choice(by_name, len(by_name))) for split, by_name in files.items()}
        for seed, run in enumerate(runs):
            row[seed] = mean([_score(alone, *drawn[tested.split], tested, unfound) for tested in run])
    seeds = of_seeds.integers(len(runs), size=values.shape)
    return [mean(each) for each in np.take_along_axis(values, seeds, axis=1).tolist()]


def behind(draws: Sequence[float], best: Sequence[float], smaller: bool, others: int = 1) -> bool:
    """Whether a score is worse than the best beyond chance: in all but `CHANCE` of the paired rounds, shared among the rows compared.

    A round in which either score is undefined counts as level. The best was chosen on the same files, which no share makes good, and of
    six rows on `ROUNDS` rounds cannot tell smaller shares apart: then no round may be lost.

    Parameters
    ----------
    smaller : bool
        Whether less is better.
    others : int
        How many rows are compared with the best (Bonferroni): of many equal ones some would seem worse more often.
    """
    ahead = np.less(best, draws) if smaller else np.greater(best, draws)
    return float(np.mean(~ahead)) <= CHANCE / others


def mean(values: Sequence[float]) -> float:
    """The mean; NaN where one value is infinite and another minus infinite."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))


def _score(task: Task, index: Int[np.ndarray, " m"], rows: Rows, tested: Tested, unfound: float) -> float:
    """The one score of a task on drawn rows; NaN where the drawn files have none."""
    return score_all(task, rows, tested.probability[index], tested.fit.how, unfound)[task.scores[0]] if len(rows) else math.nan
