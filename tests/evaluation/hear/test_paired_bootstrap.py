"""Intervals are of the mean of the seeds, and encoders are compared on the same files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Bool
from tests.evaluation.made import make_task, scene_rows

from unheard.bootstrap import N_RESAMPLES, bc_interval
from unheard.evaluation.comparison import significantly_worse
from unheard.evaluation.hear import heareval
from unheard.evaluation.hear.fit import FitResult
from unheard.evaluation.hear.head import HyperParams
from unheard.evaluation.hear.paired_bootstrap import bootstrap_scores
from unheard.evaluation.hear.rows import Rows, score_all
from unheard.evaluation.hear.task_folder import Task, read_task

FILES = 200
NAMES = {"test": [f"{index:03d}.wav" for index in range(FILES)]}
TRUTH = torch.eye(2)[torch.arange(FILES) % 2]
Right = Bool[np.ndarray, " n"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return read_task(make_task(tmp_path_factory.mktemp("draws") / "noise-v1"))


def rows(y: torch.Tensor) -> dict[str, Rows]:
    return {"test": scene_rows(y)}


def answers(right: Right, y: torch.Tensor = TRUTH) -> list[heareval.SplitResult]:
    """One run that is right about these files."""
    return [
        heareval.SplitResult("test", {}, FitResult(HyperParams()), np.where(right[:, None], y.numpy(), 1 - y.numpy()))
    ]


def draw(
    task: Task, splits: dict[str, Rows], names: dict[str, list[str]], runs: list[list[heareval.SplitResult]]
) -> list[float]:
    return bootstrap_scores(task, splits, names, runs, heareval.UNFOUND)


def first(share: float) -> Right:
    return np.arange(FILES) < share * FILES


def test_an_interval_of_shares_is_the_binomial_one(task: Task) -> None:
    found = draw(task, rows(TRUTH), NAMES, [answers(first(0.7))])
    assert len(found) == N_RESAMPLES
    low, high = bc_interval(found, 0.7)
    half = 1.96 * math.sqrt(0.7 * 0.3 / FILES)
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.02)


def test_the_mean_of_seeds_is_narrower_than_a_run(task: Task) -> None:
    shares = (0.5, 0.6, 0.7)
    runs = [answers(np.random.default_rng(seed).permuted(first(share))) for seed, share in enumerate(shares)]
    low, high = bc_interval(draw(task, rows(TRUTH), NAMES, runs), 0.6)
    singles = [bc_interval(draw(task, rows(TRUTH), NAMES, [answers(first(share))]), share) for share in shares]
    assert singles[0][0] < low < 0.6 < high < singles[2][1]
    alone, twice = (draw(task, rows(TRUTH), NAMES, [answers(first(0.6))] * count) for count in (1, 2))
    assert alone == pytest.approx(twice)  # seeds that agree say nothing more


def test_draws_spread_as_files_and_seeds_do(task: Task) -> None:
    """Runs that are right about all files, or none: the files say nothing, and the mean of three seeds spreads as three
    tosses do.
    """
    found = draw(task, rows(TRUTH), NAMES, [answers(first(share)) for share in (0.0, 1.0, 0.0)])
    assert set(np.round(found, 6)) == {0.0, 0.333333, 0.666667, 1.0}
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.06) and np.std(found) == pytest.approx(
        math.sqrt(2 / 9 / 3), abs=0.04
    )


def test_pairs_tell_what_ranges_cannot(task: Task) -> None:
    """Ten of 200 files more, on top of the same right ones: the ranges overlap, the difference is never undone by
    chance.
    """
    better, worse = (draw(task, rows(TRUTH), NAMES, [answers(first(share))]) for share in (0.65, 0.6))
    assert bc_interval(worse, 0.6)[1] > 0.65 > 0.6 > bc_interval(better, 0.65)[0]
    assert behind(worse, better, smaller=False) and not behind(better, worse, smaller=False)
    assert behind(better, worse, smaller=True) and not behind(worse, better, smaller=True)
    other = draw(task, rows(TRUTH), NAMES, [answers(np.random.default_rng(0).permuted(first(0.6)))])
    assert not behind(other, better, smaller=False)  # other files are right: five points on 200 files may be chance
    assert not behind(better, better, smaller=False)


def behind(row: list[float], best: list[float], smaller: bool = False, others: int = 1) -> bool:
    """Whether a row is significantly worse than the best one, where ``others`` - 1 more rows equal the best."""
    return significantly_worse([best, row, *[best] * (others - 1)], 0, smaller)[1]


def test_p_values_are_adjusted_for_the_number_of_rows() -> None:
    best, level = [0.6] * 2000, [0.6] * 40 + [0.5] * 1960
    assert behind(level, best) and not behind([0.6] * 60 + [0.5] * 1940, best)
    assert not behind(level, best, others=2)
    assert behind([0.5] * 2000, best, others=40) and not behind(
        [0.5] * 2000, best, others=60
    )  # 1 / 2001 is the least p-value
    assert behind([2.0] * 2000, [math.inf] * 1990 + [1.9] * 10)  # infinitely ahead is ahead
    assert not behind([math.nan] * 1999 + [0.5], best)  # what is undefined counts as a tie
    steps = significantly_worse([best, [0.5] * 2000, level], 0, smaller=False)
    assert steps == [False, True, True]  # Holm: the second p-value is compared alone


def test_a_file_without_rows_does_not_shift_the_others(task: Task) -> None:
    right = np.random.default_rng(3).permuted(first(0.6))
    whole = draw(task, rows(TRUTH), NAMES, [answers(right)])
    there = np.arange(FILES) != 117
    part = {"test": replace(scene_rows(TRUTH[there]), file=np.flatnonzero(there))}
    found = draw(
        task,
        part,
        NAMES,
        [[heareval.SplitResult("test", {}, FitResult(HyperParams()), answers(right)[0].probability[there])]],
    )
    assert np.corrcoef(whole, found)[0, 1] > 0.95 and whole != found


def test_the_order_of_the_files_does_not_change_the_draws(task: Task) -> None:
    order = np.random.default_rng(1).permutation(FILES)
    y, names = TRUTH[order], {"test": [NAMES["test"][index] for index in order]}
    assert draw(task, rows(y), names, [answers(first(0.6)[order], y)]) == draw(
        task, rows(TRUTH), NAMES, [answers(first(0.6))]
    )


def test_repeated_files_do_not_lift_an_interval_of_map(task: Task) -> None:
    """Twelve classes on 120 files: most draws are above the score, and plain percentiles would be above it, too."""
    ranked, rng = replace(task, scores=("mAP",), labels=tuple("abcdefghijkl")), np.random.default_rng(0)
    y = torch.eye(12)[torch.from_numpy(rng.choice(12, 120))]
    predictions = [
        heareval.SplitResult("test", {}, FitResult(HyperParams()), 1.2 * y.numpy() + rng.standard_normal((120, 12)))
    ]
    value = score_all(ranked, rows(y)["test"], predictions[0].probability, None)["mAP"]
    found = draw(ranked, rows(y), NAMES, [predictions])
    low, high = bc_interval(found, value)
    assert np.mean(found) > value + 0.005
    assert low < value < high and low < np.quantile(found, 0.025) and high < np.quantile(found, 0.975)


def test_rounds_without_a_score_are_left_out(tmp_path: Path, task: Task) -> None:
    nowhere = replace(task, scores=("aucroc",), multilabel=True)
    y = torch.zeros(6, 2)
    y[0] = 1
    found = draw(nowhere, rows(y), {"test": list("abcdef")}, [answers(np.ones(6, bool), y)])
    undefined = np.isnan(found)
    assert 0 < undefined.sum() < N_RESAMPLES
    assert bc_interval(found, 1.0) == (1.0, 1.0)
    few = draw(nowhere, rows(y[:5]), {"test": list("abcde")}, [answers(np.ones(5, bool), y[:5])])
    assert np.isnan(few).all()
    nan = [math.nan] * N_RESAMPLES
    assert all(map(math.isnan, bc_interval(nan)))
