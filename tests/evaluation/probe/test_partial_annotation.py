"""Classes that are not annotated in a clip are used neither in training nor in a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from unheard.data.class_sets import AnnotatedClasses, ClassSets
from unheard.data.label_table import Labels
from unheard.evaluation.probe.heads import NEIGHBOURS, knn, logistic_regression, mean_average_precision
from unheard.evaluation.probe.layers import LAYER_MIX
from unheard.evaluation.probe.probe import InnerOutputs, ProbeConfig, probe_embeddings

Table = Callable[..., Labels]


def half_annotated(table: Table) -> tuple[np.ndarray, Labels]:
    """Vectors that hold the true labels of 300 clips, and a table in which half of the labels of each class are not
    annotated.
    """
    rng = np.random.default_rng(0)
    truth, known = (rng.random((300, 3)) < 0.4).astype(np.int64), rng.random((300, 3)) < 0.5
    labels = table([[0], [0, 1, 2]] * 150, split=["train"] * 200 + ["test"] * 100)
    partial = replace(labels, target=ClassSets.from_dense(truth * known), known=AnnotatedClasses.from_dense(known))
    return truth + 0.2 * rng.standard_normal((300, 3)), partial


def test_labels_without_annotation_are_not_used(table: Table) -> None:
    vectors, labels = half_annotated(table)
    how = ProbeConfig(seeds=(0,), n_resamples=50, C=1.0)
    report = probe_embeddings({"x": vectors}, labels, how, inner=InnerOutputs(np.stack([vectors, vectors], axis=1)))
    assert {score.head for score in report.scores} == {"linear", "knn", "mlp"} and LAYER_MIX in {
        score.embedding for score in report.scores
    }
    assert all(score.mean > 0.97 for score in report.scores)
    assert all(row.precision > 0.9 and row.recall > 0.75 for row in report.per_class)
    tested, annotated = labels.target[200:], labels.known[200:]  # type: ignore[index]
    assert report.chance["mAP"] == pytest.approx((tested.sum(axis=0) / annotated.sum(axis=0)).mean())
    assert [row.clips for row in report.per_class if row.head == "linear"] == tested.sum(axis=0).tolist()
    for answer in report.answers:
        partial = {labels.classes.index(name) for name in answer.predicted.split("|") if name}
        assert partial <= set(np.flatnonzero(labels.known[answer.clip]))  # type: ignore[index]
    blind = probe_embeddings({"x": vectors}, replace(labels, known=None), how)
    assert all(score.mean < 0.9 for score in blind.scores)


def test_ranking_is_the_average_precision_of_annotated_clips(table: Table) -> None:
    _, labels = half_annotated(table)
    answer = np.random.default_rng(1).integers(0, 9, (300, 3)) / 9  # with ties
    assert labels.known is not None
    known = labels.known[:]
    each = [average_precision_score(labels.target[:][known[:, k], k], answer[known[:, k], k]) for k in range(3)]
    assert mean_average_precision(labels.ternary_targets, answer) == pytest.approx(float(np.mean(each)), abs=1e-12)


def test_the_heads_of_a_class_learn_from_its_annotated_clips_alone(table: Table) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    vectors, labels = half_annotated(table)
    marks, (x, other) = labels.ternary_targets[:200], (vectors[:200], vectors[200:])
    mean, spread = x.mean(axis=0), x.std(axis=0)
    x, other = (x - mean) / spread, (other - mean) / spread
    (answer,), votes = logistic_regression(x, marks, other, [0.1], multilabel=True), knn(x, marks, other)
    for k in range(3):
        annotated = marks[:, k] >= 0
        model = LogisticRegression(C=0.1, tol=1e-8).fit(x[annotated], marks[annotated, k])
        np.testing.assert_allclose(answer[:, k], model.predict_proba(other)[:, 1], atol=2e-3)
        count = min(NEIGHBOURS, int(np.sqrt(annotated.sum())))
        near = KNeighborsClassifier(count, metric="cosine", weights=lambda distance: 2 - distance).fit(
            x[annotated], marks[annotated, k]
        )
        np.testing.assert_allclose(votes[:, k], near.predict_proba(other)[:, 1], atol=1e-9)


def test_a_class_without_annotation_in_training_gets_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((8, 2))
    marks = np.array([[1, -1, 1], [0, -1, -1]] * 4)
    for answer in (knn(x, marks, x), logistic_regression(x, marks, x, [1.0], multilabel=True)[0]):
        assert (answer[:, 1] == 0).all() and (answer[:, 2] == pytest.approx(1))
