"""Which rows train, select and test the head, and the scores of one task.

The reference validates on the test fold, or on the test split of three tasks, which chooses the epoch on the test
clips. The exact protocol validates on the next fold, or on a tenth of the training clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unheard.evaluation.comparison import TestPart, averaged_replicates
from unheard.evaluation.xares.head import Fit, Head, Splits, skip_draws, train
from unheard.evaluation.xares.metrics import score, statistic
from unheard.evaluation.xares.neighbours import Normalised, votes
from unheard.evaluation.xares.rows import Rows, joined
from unheard.evaluation.xares.shuffles import epoch_order, generators, shards_of
from unheard.evaluation.xares.tasks import XaresTask
from unheard.progress import Track, silent

SEED = 42
VALIDATION_FRACTION = (
    0.1  # of the training clips in the exact protocol, where validation and test are equal; our choice
)
KNN: dict[str, Normalised] = {"knn": "columns", "knn_rows": "rows"}
"""Scores by nearest neighbours, and the axis of the training vectors with norm 1."""


@dataclass(frozen=True)
class Round:
    """One training and test.

    Parameters
    ----------
    test : str
        Name of the test split or fold.
    splits : Splits
    sizes : list of int
        Number of rows of each split that is joined for training.
    """

    test: str
    splits: Splits
    sizes: list[int]


@dataclass
class TaskScores:
    """Scores of a task.

    Parameters
    ----------
    means : dict of str to float
        The metric of the head, then ``knn`` and ``knn_rows`` where they are scored.
    splits : list of dict
        The same of every test split and seed.
    chosen : dict
        Best epoch of each fit, by seed and test split.
    replicates : list of float
        Bootstrap replicates of the first score, see `averaged_replicates`.
    """

    means: dict[str, float]
    splits: list[dict[str, Any]]
    chosen: dict[str, Any]
    replicates: list[float]


def rounds(task: XaresTask, splits: Mapping[str, Rows], exact: bool = False) -> list[Round]:
    """Return the rounds of a task: one, or one for each fold."""
    if not task.folds:
        first, valid, test = (splits[name] for name in task.splits)
        if exact and task.splits[1] == task.splits[2]:
            first, valid = _held_out(first)
        return [Round(task.splits[2], Splits(first, valid, test), [len(first)])]
    found = []
    for index, fold in enumerate(task.folds):
        valid_fold = task.folds[(index + 1) % len(task.folds)] if exact else fold
        parts = [splits[other] for other in task.folds if other not in (fold, valid_fold)]
        found.append(
            Round(fold, Splits(joined(parts), splits[valid_fold], splits[fold]), [len(part) for part in parts])
        )
    return found


def score_rows(
    task: XaresTask, found: Sequence[Round], hop: float, seeds: int, exact: bool = False, track: Track = silent
) -> TaskScores:
    """Train and test heads and nearest neighbours.

    Parameters
    ----------
    hop : float
        Seconds between frames, for event tasks.
    seeds : int
        Number of seeds from 42: of the initial head and of the order of the rows.
    """
    neighbours = [_knn(task, each, exact) if task.knn else {} for each in found]
    rows, fits = list[dict[str, Any]](), list[list[Fit]]()
    for seed in track(range(SEED, SEED + seeds), seeds, f"{task.name}: heads"):
        fits.append(_fits(task, found, hop, seed))
        for each, fit, by_neighbours in zip(found, fits[-1], neighbours, strict=True):
            value = score(task, fit.predicted, hop)
            rows.append({"split": each.test.strip("-"), "seed": seed, task.metric: value, **by_neighbours})
    tests = [
        TestPart(each.splits.test.clips, [statistic(task, of_seed[index].predicted, hop) for of_seed in fits])
        for index, each in enumerate(found)
    ]
    return summary(rows, fits, averaged_replicates(tests))


def summary(rows: list[dict[str, Any]], fits: Sequence[Sequence[Fit]], replicates: list[float]) -> TaskScores:
    """Return scores with their means over splits and seeds."""
    names = [name for name in rows[0] if name not in ("split", "seed")]
    means = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return TaskScores(
        means, rows, {"best_epochs": [[fit.best_epoch for fit in of_seed] for of_seed in fits]}, replicates
    )


def _fits(task: XaresTask, found: Sequence[Round], hop: float, seed: int) -> list[Fit]:
    """Train the head of each round; the heads take random numbers in the order of the reference."""
    fits = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for index, each in enumerate(found):
            head = Head(each.splits.train.width, len(task.classes))
            shards = shards_of(each.sizes)

            def order(epoch: int) -> list[int]:
                return epoch_order(shards, epoch, *generators(seed, index, epoch))  # noqa: B023

            fits.append(train(task, head, each.splits, order, hop))
            skip_draws(task.epochs)
    return fits


def _knn(task: XaresTask, each: Round, exact: bool) -> dict[str, float]:
    """Return the accuracy of nearest neighbours; the exact protocol has unit rows only."""
    splits, found = each.splits, {}
    for name, normalised in KNN.items():
        if not exact or normalised == "rows":
            won = votes(splits.train.x[0], splits.train.y[0], splits.test.x[0], len(task.classes), normalised)
            found[name] = float((won.argmax(dim=1) == splits.test.y[0]).float().mean())
    return found


def _held_out(rows: Rows) -> tuple[Rows, Rows]:
    """Return the rows of most clips, and those of a tenth of the clips."""
    clips = np.unique(rows.clips)
    count = max(1, round(VALIDATION_FRACTION * len(clips)))
    held = np.isin(rows.clips, np.random.default_rng(SEED).permutation(clips)[:count])
    return rows.chosen(np.flatnonzero(~held)), rows.chosen(np.flatnonzero(held))
