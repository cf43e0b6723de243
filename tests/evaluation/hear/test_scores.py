"""The scores of tasks and probes are those of scikit-learn and SciPy, for ties, missing classes and single clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import norm

from unheard import metrics
from unheard.evaluation.hear.scores import SCORES

SEEDS = st.integers(0, 10**6)
CLIPS = st.integers(1, 40)


def answers(seed: int, clips: int, classes: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets, where some classes have one side only, and scores of which many are equal where there are few levels."""
    rng = np.random.default_rng(seed)
    target = (rng.random((clips, classes)) < rng.choice([0.0, 0.2, 0.5, 1.0], classes)).astype(np.int64)
    return target, rng.integers(0, levels, (clips, classes)) / levels


@given(seed=SEEDS, clips=CLIPS, classes=st.integers(1, 6), levels=st.sampled_from([1, 2, 5, 10**6]))
@example(seed=0, clips=1, classes=1, levels=1)
def test_ranking_scores_of_each_class(seed: int, clips: int, classes: int, levels: int) -> None:
    target, score = answers(seed, clips, classes, levels)
    precisions, areas = metrics.average_precisions(target, score), metrics.roc_aucs(target, score)
    for k in range(classes):
        positive = int(target[:, k].sum())
        if positive:
            assert precisions[k] == pytest.approx(reference.average_precision_score(target[:, k], score[:, k]))
        else:
            assert math.isnan(precisions[k])
        if not 0 < positive < clips:
            assert math.isnan(areas[k])
            continue
        area = reference.roc_auc_score(target[:, k], score[:, k])
        assert areas[k] == pytest.approx(area)
        assert metrics.d_prime(float(areas[k])) == pytest.approx(math.sqrt(2) * norm.ppf(area), abs=1e-6)
    monotone = np.exp(3 * score) - 7
    np.testing.assert_allclose(metrics.average_precisions(target, monotone), precisions)
    np.testing.assert_allclose(metrics.roc_aucs(target, -score), 1 - areas)


@given(seed=SEEDS, clips=CLIPS, classes=st.integers(1, 6), levels=st.sampled_from([1, 3, 10**6]))
def test_scores_of_a_task_of_several_labels(seed: int, clips: int, classes: int, levels: int) -> None:
    target, score = answers(seed, clips, classes, levels)
    there = target.any(axis=0)
    precisions = [
        reference.average_precision_score(target[:, k], score[:, k]) if there[k] else 0.0 for k in range(classes)
    ]
    assert SCORES["mAP"].compute(target, score) == pytest.approx(np.mean(precisions))
    both = there & ~target.all(axis=0)
    if both.all():
        areas = [reference.roc_auc_score(target[:, k], score[:, k]) for k in range(classes)]
        assert SCORES["aucroc"].compute(target, score) == pytest.approx(np.mean(areas))
        if 0 < min(areas) and max(areas) < 1:
            assert SCORES["d_prime"].compute(target, score) == pytest.approx(
                math.sqrt(2) * np.mean(norm.ppf(areas)), abs=1e-6
            )
    else:
        assert math.isnan(SCORES["aucroc"].compute(target, score)) and math.isnan(
            SCORES["d_prime"].compute(target, score)
        )


@given(seed=SEEDS, clips=CLIPS, classes=st.integers(2, 30), named=st.integers(1, 30))
@example(seed=0, clips=1, classes=2, named=1)
def test_scores_of_one_class_a_clip(seed: int, clips: int, classes: int, named: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, min(classes, named), clips), rng.integers(0, classes, clips)
    target, score = (
        np.eye(classes, dtype=np.int64)[truth],
        np.eye(classes)[predicted] + 0.9 * rng.random((clips, classes)) * 0.5,
    )
    accuracy = reference.accuracy_score(truth, predicted)
    assert metrics.accuracy(truth, predicted) == pytest.approx(accuracy)
    assert (
        SCORES["top1_acc"].compute(target, score)
        == SCORES["pitch_acc"].compute(target, score)
        == pytest.approx(accuracy)
    )
    assert SCORES["chroma_acc"].compute(target, score) == pytest.approx(
        reference.accuracy_score(truth % 12, predicted % 12)
    )
    recalls = reference.recall_score(truth, predicted, labels=np.unique(truth), average="macro")
    assert metrics.balanced_accuracy(truth, predicted) == pytest.approx(recalls)
    confusion = metrics.confusion_matrix(truth, predicted, classes)
    assert (confusion == reference.confusion_matrix(truth, predicted, labels=range(classes))).all()
    assert confusion.trace() / confusion.sum() == pytest.approx(accuracy)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if not score.event])
@given(seed=SEEDS, clips=CLIPS, levels=st.sampled_from([1, 3, 10**6]))
def test_the_score_of_all_rows_once_is_the_score(name: str, seed: int, clips: int, levels: int) -> None:
    target, score = answers(seed, clips, 4, levels)
    once = SCORES[name].statistic(target, score)(np.ones((clips, 1), np.float32))[0]
    assert once == pytest.approx(SCORES[name].compute(target, score), rel=1e-5, abs=1e-5, nan_ok=True)
