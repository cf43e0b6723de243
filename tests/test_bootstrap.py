"""Bootstrap intervals: statistics over many resamples equal the plain metric on the same clips."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard import bootstrap, metrics
from unheard.bootstrap import (
    Counts,
    Statistic,
    bc_interval,
    holm,
    interval_text,
    known,
    mean_statistic,
    replicates,
    resample_counts,
    two_sided,
)
from unheard.errors import DataError
from unheard.evaluation.hear.events import Events
from unheard.evaluation.hear.scores import SCORES


def resampled(counts: np.ndarray, column: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts[:, column].astype(int))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_class_scores_of_resamples_equal_the_plain_ones(seed: int, clips: int, classes: int, partial: bool) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((clips, classes)) < rng.random()).astype(np.int64)
    score = rng.integers(0, 5, (clips, classes)).astype(float)  # many ties
    annotated = rng.random((clips, classes)) < 0.7 if partial else np.ones((clips, classes), bool)
    (counts,) = resample_counts(np.arange(clips), seed, 3)
    undefined = metrics.only_positive(target, annotated)
    for of_resamples, plain in (
        (bootstrap.average_precisions_statistic, metrics.average_precisions),
        (bootstrap.roc_aucs_statistic, metrics.roc_aucs),
    ):
        found = of_resamples(target, score, annotated)(counts)
        for k, column in np.ndindex(classes, 3):
            at = resampled(counts, column)
            at = at[annotated[at, k] & ~undefined[k]]
            wanted = plain(target[at, k, None], score[at, k, None])[0] if len(at) else math.nan
            assert found[k, column] == pytest.approx(wanted, abs=1e-6, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5))
def test_accuracies_of_resamples_equal_the_plain_ones(seed: int, clips: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes, (2, clips))
    (counts,) = resample_counts(np.arange(clips) // 2, seed, 4)
    balanced, plain = (
        bootstrap.balanced_accuracy_statistic(truth, predicted),
        bootstrap.mean_statistic(truth == predicted),
    )
    for column in range(4):
        at = resampled(counts, column)
        assert balanced(counts)[column] == pytest.approx(metrics.balanced_accuracy(truth[at], predicted[at]), abs=1e-6)
        assert plain(counts)[column] == pytest.approx(metrics.accuracy(truth[at], predicted[at]), abs=1e-6)


def repeated(events: Events, at: np.ndarray) -> Events:
    """The events of the files ``at``, each as a file of its own."""
    parts = [(np.flatnonzero(events.file == file), place) for place, file in enumerate(at)]
    index = np.concatenate([rows for rows, _ in parts])
    owner = np.concatenate([np.full(len(rows), place) for rows, place in parts])
    return Events(owner, events.label[index], events.start[index], events.end[index])


def events(rng: np.random.Generator, files: int, count: int) -> Events:
    start = rng.integers(0, 40, count) * 100.0
    return Events(
        rng.integers(0, files, count), rng.integers(0, 2, count), start, start + rng.integers(1, 20, count) * 100.0
    )


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.event])
@pytest.mark.parametrize("seed", range(12))
def test_event_scores_of_resamples_equal_the_plain_ones(name: str, seed: int) -> None:
    rng, score = np.random.default_rng(seed), SCORES[name]
    reference, estimated = events(rng, 6, 20), events(rng, 6, 12)
    (counts,) = resample_counts(np.arange(6), seed, 5)
    found = score.statistic(reference, estimated, 6)(counts)
    for column in range(5):
        at = resampled(counts, column)
        wanted = next(iter(score.compute(repeated(reference, at), repeated(estimated, at)).values()))
        assert found[column] == pytest.approx(wanted, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if not score.event])
def test_row_scores_of_resamples_equal_the_plain_ones(name: str) -> None:
    rng, score = np.random.default_rng(1), SCORES[name]
    target = np.eye(5, dtype=np.int64)[np.arange(60) % 5]
    probability = 0.3 * target + rng.random((60, 5))
    (counts,) = resample_counts(np.arange(60), 2, 5)
    found = score.statistic(target, probability)(counts)
    wanted = [score.compute(target[at], probability[at]) for at in (resampled(counts, column) for column in range(5))]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert score.statistic(target, probability)(np.ones((60, 1), np.float32))[0] == pytest.approx(
        score.compute(target, probability), abs=1e-6
    )


def test_one_group_has_no_interval() -> None:
    right = np.array([1.0, 0, 1, 1])
    found = replicates(mean_statistic(right), np.array(["a"] * 4), 0, 50)
    assert found.shape == (50,) and np.isnan(found).all() and np.isnan(bc_interval(found, 0.75)).all()
    assert known(bc_interval(found, 0.75)) == (None, None) and two_sided(found) == 1
    assert interval_text(None, None) == "not known" and interval_text(0.1, 0.2) == "0.100 - 0.200"
    assert np.isfinite(replicates(mean_statistic(right), np.array(["a", "a", "b", "b"]), 0, 50)).all()


@pytest.mark.parametrize(("units", "p"), [(2, 0.5), (5, 2**-4), (6, 2**-5), (100, 2 / 1001), (None, 2 / 1001)])
def test_few_units_are_not_significant(units: int | None, p: float) -> None:
    assert two_sided(np.full(1000, 0.3), units) == pytest.approx(p)


def test_groups_stay_whole_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    (counts,) = resample_counts(groups, 3, 500)
    assert (counts[groups == "b"] == counts[0]).all() and (counts[groups == "a"] == counts[1]).all()
    assert (counts[[0, 1, 3]].sum(axis=0) == 3).all()  # as many groups as there are
    assert counts[[0, 1, 3]].mean(axis=1) == pytest.approx(1, abs=0.15)
    monkeypatch.setattr(bootstrap, "BLOCK", 50)
    blocks = list(resample_counts(groups, 3, 500))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), counts)
    with pytest.raises(DataError, match="at least one clip"):
        next(resample_counts(np.array([]), 0))


def test_one_grouped_pair_costs_no_more_than_none() -> None:
    """Counts of groups are copied to their clips: a statistic is called as often, with arrays of the same sizes."""
    called: list[list[tuple[int, ...]]] = [[], []]
    for shapes, groups in zip(called, (np.arange(20_000), np.maximum(np.arange(20_000), 1)), strict=True):

        def statistic(counts: Counts, shapes: list[tuple[int, ...]] = shapes) -> Any:
            shapes.append(counts.shape)
            return counts.mean(axis=0)

        replicates(statistic, groups, 0, 300)
    assert called[0] == called[1] and len(called[0]) == 6


def test_an_interval_of_shares_is_the_binomial_one_and_seeded() -> None:
    right = np.arange(400) % 4 > 0  # 75 %
    statistic: Statistic = bootstrap.mean_statistic(right)
    low, high = bc_interval(replicates(statistic, np.arange(400), 1), 0.75)
    spread = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - spread, abs=0.005) and high == pytest.approx(0.75 + spread, abs=0.005)
    assert (low, high) == bc_interval(replicates(statistic, np.arange(400), 1), 0.75)


def test_percentiles_move_where_the_score_is_not_the_median() -> None:
    values, normal = np.linspace(0, 1, 1001).tolist(), metrics.NormalDist()
    assert bc_interval(values) == pytest.approx((0.025, 0.975))
    assert bc_interval(values, 0.5) == pytest.approx((0.025, 0.975), abs=1e-3)  # the score is their median
    low, high = bc_interval(values, 0.3)  # seven in ten replicates are above it: 2 * -0.52 deviations
    assert (low, high) == pytest.approx((normal.cdf(-1.0488 - 1.96), normal.cdf(-1.0488 + 1.96)), abs=2e-3)
    assert bc_interval([0.5, 0.6, 0.7], 0.2)[0] == 0.2
    assert bc_interval([1.0, 1.0, math.nan], 1.0) == (1.0, 1.0)
    assert bc_interval([1.0, 2.0, math.inf], math.inf)[1] == math.inf
    assert all(map(math.isnan, bc_interval([0.1, 0.2, 0.3], math.nan)))
    ties = [(0.1 + 0.2) if draw % 2 else 0.3 for draw in range(100)]  # equal but for the last digit
    assert bc_interval([*ties, *values[:100], *values[-100:]], 0.3) == pytest.approx((0.007475, 0.992525), abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values: list[float]) -> None:
    found = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, found, strict=True))
    assert max(found) >= max(p_values) and min(found) == pytest.approx(min(1, min(p_values) * len(p_values)))
    for a, b in zip(np.argsort(p_values, kind="stable"), np.argsort(p_values, kind="stable")[1:], strict=False):
        assert found[a] <= found[b]


def test_map_of_a_large_evaluation_set_stays_small() -> None:
    """10 231 clips and 200 classes, as FSD50K: memory does not grow with the number of resamples."""
    program = """
import resource, numpy as np
from unheard.bootstrap import average_precisions_statistic, class_mean, replicates
rng = np.random.default_rng(0)
target = (rng.random((10231, 200)) < 0.015).astype(np.int64)
statistic = average_precisions_statistic(target, target + rng.standard_normal(target.shape))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = replicates(lambda counts: class_mean(statistic(counts)), np.arange(10231), 0, 400)
assert len(found) == 400
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(out) < 150  # MB; 400 columns of counts alone would be 16
