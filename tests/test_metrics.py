"""Metrics equal those of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard import bootstrap, metrics
from unheard.errors import DataError


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(1, 60), classes=st.integers(2, 6))
def test_classification_equals_scikit_learn(seed: int, clips: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, clips)
    predicted = np.where(rng.random(clips) < 0.5, truth, rng.integers(0, classes, clips))
    assert metrics.accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    recalls = reference.recall_score(truth, predicted, labels=np.unique(truth), average="macro")
    assert metrics.balanced_accuracy(truth, predicted) == pytest.approx(recalls)
    ours = metrics.confusion_matrix(truth, predicted, classes)
    assert (ours == reference.confusion_matrix(truth, predicted, labels=range(classes))).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(4, 60), tied=st.booleans())
def test_ranking_equals_scikit_learn(seed: int, clips: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((clips, 3)) < 0.4).astype(int)
    target[0], target[1] = 1, 0
    score = rng.integers(0, 4, (clips, 3)).astype(float) if tied else rng.random((clips, 3))
    assert metrics.mean_average_precision(target, score) == pytest.approx(
        reference.average_precision_score(target, score)
    )
    assert np.mean(metrics.roc_aucs(target, score)) == pytest.approx(reference.roc_auc_score(target, score))


def test_classes_that_never_occur_are_left_out() -> None:
    target, score = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    assert metrics.mean_average_precision(target, score) == 1.0
    assert np.nanmean(metrics.roc_aucs(target, score)) == 1.0
    assert math.isnan(metrics.mean_average_precision(target * 0, score))


@pytest.mark.parametrize("ranking", [metrics.average_precisions, metrics.mean_average_precision, metrics.roc_aucs])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_an_error_that_names_clip_and_class(
    ranking: Callable[..., object], value: float
) -> None:
    target, score = np.array([[1, 0], [0, 1], [1, 0]]), np.array([[0.9, 0.1], [0.2, 0.3], [0.4, value]])
    with pytest.raises(DataError, match=f"1 of 6 scores .* {value} for clip 2 and class 1"):
        ranking(target, score)
    annotated = np.isfinite(score)
    assert np.isfinite(ranking(target, score, annotated)).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(1, 40), tied=st.booleans())
def test_classes_at_once_are_classes_one_by_one(seed: int, clips: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((clips, 3)) < 0.5).astype(int)
    score = rng.integers(0, 3, (clips, 3)).astype(float) if tied else rng.random((clips, 3))
    for k, (precision, auc) in enumerate(
        zip(metrics.average_precisions(target, score), metrics.roc_aucs(target, score), strict=True)
    ):
        if target[:, k].any():
            assert precision == pytest.approx(reference.average_precision_score(target[:, k], score[:, k]))
        if 0 < target[:, k].sum() < clips:
            assert auc == pytest.approx(reference.roc_auc_score(target[:, k], score[:, k]))
        else:
            assert math.isnan(auc)


def test_d_prime_is_the_distance_of_two_normal_distributions() -> None:
    assert metrics.d_prime(0.5) == 0.0
    assert metrics.d_prime(0.7602499389065233) == pytest.approx(1.0)  # Phi(1 / sqrt 2)
    assert (metrics.d_prime(1.0), metrics.d_prime(0.0)) == (math.inf, -math.inf)
    assert math.isnan(metrics.d_prime(math.nan))


def test_wilson_interval_is_the_textbook_one() -> None:
    assert metrics.wilson_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert metrics.wilson_interval(0, 5)[0] == 0.0
    assert metrics.wilson_interval(5, 5)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("similar", [0.0, 0.8])
def test_interval_of_grouped_clips_contains_the_share_as_often_as_it_claims(similar: float) -> None:
    rng, share, groups = np.random.default_rng(0), 0.6, np.repeat(np.arange(10), 20)
    inside, plain = [], []
    for _ in range(400):
        of_group = rng.beta(share * (1 / similar - 1), (1 - share) * (1 / similar - 1), 10) if similar else share
        right = rng.random(200) < np.broadcast_to(of_group, 10)[groups]
        for found, (low, high) in (
            (inside, metrics.grouped_wilson_interval(right, groups)),
            (plain, metrics.wilson_interval(int(right.sum()), 200)),
        ):
            found.append(low <= share <= high)
    assert np.mean(inside) > 0.93
    assert similar == 0 or np.mean(plain) < 0.5  # clips that are taken as independent


def test_a_class_that_is_never_annotated_as_absent_has_no_average_precision() -> None:
    rng = np.random.default_rng(0)
    target, score = (rng.random((30, 3)) < 0.5).astype(np.int64), rng.random((30, 3))
    annotated = np.ones((30, 3), bool)
    annotated[:, 1] = target[:, 1] == 1
    found = metrics.average_precisions(target, score, annotated)
    assert np.isnan(found).tolist() == [False, True, False]
    assert metrics.mean_average_precision(target, score, annotated) == pytest.approx(found[[0, 2]].mean())
    resampled = bootstrap.replicates(
        bootstrap.average_precisions_statistic(target, score, annotated), np.arange(30), 0, 20
    )
    assert np.isnan(resampled[1]).all() and np.isfinite(resampled[[0, 2]]).all()
    all_positive = np.ones((30, 1), np.int64)
    assert metrics.average_precisions(all_positive, score[:, :1]) == [1.0]  # complete annotation, as in scikit-learn
    assert metrics.average_precisions(all_positive, score[:, :1], annotated[:, :1]) == [1.0]


def test_interval_of_grouped_clips_at_its_ends() -> None:
    right, alone = np.array([True, True, False, True]), np.arange(4)
    assert metrics.grouped_wilson_interval(right, alone) == metrics.wilson_interval(3, 4)
    assert np.isnan(metrics.grouped_wilson_interval(right, np.zeros(4))).all()
    low, high = metrics.grouped_wilson_interval(np.ones(40, bool), np.arange(40) // 8)
    assert low < metrics.wilson_interval(5, 5)[0] and high == pytest.approx(1.0)
    halves = metrics.grouped_wilson_interval(np.arange(40) % 2 == 0, np.arange(40) // 8)  # the same share in each group
    assert halves[0] > metrics.wilson_interval(2, 5)[0] and sum(halves) == pytest.approx(1.0)


def test_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="at least one clip"):
        metrics.accuracy(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(DataError, match="6 of 5"):
        metrics.wilson_interval(6, 5)
