"""The heads of a probe equal scikit-learn, choose by held clips, and scale with the number of clips."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unheard.data.label_table import Labels
from unheard.evaluation.probe import heads
from unheard.evaluation.probe import steps as steps_module
from unheard.evaluation.probe.heads import (
    C_GRID,
    balanced_accuracy_score,
    choose_strength,
    knn,
    log_loss,
    logistic_regression,
    mean_average_precision,
    strength_of,
)
from unheard.evaluation.probe.mlp import mlp
from unheard.evaluation.probe.steps import Clips

Table, Clouds = Callable[..., Labels], Callable[..., np.ndarray]


def test_a_linear_head_of_several_labels_equals_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 5))
    target = (x @ rng.standard_normal((5, 3)) + 0.5 * rng.standard_normal((150, 3)) > 0).astype(np.int64)
    scaler = StandardScaler().fit(x[:100])
    (answer,) = logistic_regression(x[:100], target[:100], x[100:], [0.1], multilabel=True)
    for k in range(3):
        model = LogisticRegression(C=0.1, tol=1e-8).fit(scaler.transform(x[:100]), target[:100, k])
        np.testing.assert_allclose(answer[:, k], model.predict_proba(scaler.transform(x[100:]))[:, 1], atol=2e-3)


def test_a_linear_head_of_similar_dimensions_is_fitted_to_the_end() -> None:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    x = (rng.standard_normal((150, 200)) * np.arange(1.0, 201.0) ** -1.5) @ rotation
    target = np.eye(5, dtype=np.int64)[rng.integers(0, 5, 150)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn warns where the iterations end before the optimum
        logistic_regression(x, target, x, [10.0], multilabel=False)


def test_more_dimensions_than_clips_change_nothing(clouds: Clouds) -> None:
    from sklearn.linear_model import LogisticRegression

    classes = np.arange(30) % 3
    x = clouds(classes.tolist(), 1.0, dimensions=200)
    (answer,) = logistic_regression(x[:20], np.eye(3, dtype=np.int64)[classes[:20]], x[20:], [0.03], multilabel=False)
    mean, spread = x[:20].mean(axis=0), x[:20].std(axis=0)
    model = LogisticRegression(C=0.03, tol=1e-8, max_iter=1000).fit((x[:20] - mean) / spread, classes[:20])
    np.testing.assert_allclose(answer, model.predict_proba((x[20:] - mean) / spread), atol=2e-3)


def test_where_every_strength_ranks_alike_the_surest_answers_choose() -> None:
    """Every C ranks two separate clouds without a mistake; the strongest gives each rare clip less than a half, and an
    F1 of 0.
    """
    rng = np.random.default_rng(0)
    rare = np.arange(400) % 20 == 0
    x = rng.standard_normal((400, 4)) * 0.3 + 3 * rare[:, None]
    target = np.stack([rare, ~rare], axis=1).astype(np.int64)
    fit, held = np.arange(300), np.arange(300, 400)
    first, *_, last = logistic_regression(x[fit], target[fit], x[held], [*map(strength_of, C_GRID)], multilabel=True)
    assert (
        mean_average_precision(target[held], first) == mean_average_precision(target[held], last) == 1
        and not (first[rare[held], 0] > 0.5).any()
    )
    (chosen,) = logistic_regression(
        x[fit], target[fit], x[held], [choose_strength(x, target, [(fit, held)], multilabel=True)], multilabel=True
    )
    np.testing.assert_array_equal(chosen[:, 0] > 0.5, rare[held])


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        (
            [[0.5, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8]],
            [[0.0, 0.4, 0.1, 0.2, 0.3, 0.4, 0.5]],
            0.01,
        ),  # among those that rank best, the likeliest
        ([[0.9, 0.9, 0.9, 0.8, 0.9, 0, 0], [0.7, 0.8, 0.7, 0.9, 0.9, 0, 0]], [[1.0] * 7] * 2, 0.1),
        (
            [[0.9, 0.7, 0, 0, 0, 0, 0], [0.8, 0.8, 0, 0, 0, 0, 0], [0.7, 0.9, 0, 0, 0, 0, 0]],
            [[0.9, 0.1, 0, 0, 0, 0, 0]] * 3,
            0.0032,
        ),
        (
            [[0, 0, 0, 0, 0, 0.8, 0.9, 0.95, 0.94]],
            [[0.0] * 9],
            3.2,
        ),  # the last one is the best: the next ones are tried
        ([[0.9, 0.8, 0, 0, 0, 0, 0, 0.9]], [[0.0] * 8], 0.001),  # a tie ends the search
    ],
)
def test_strengths_are_ranked_by_score_then_likelihood(
    monkeypatch: pytest.MonkeyPatch, scores: list[list[float]], losses: list[list[float]], best: float
) -> None:
    width = len(C_GRID)  # scores are asked for candidate by candidate, and for each of them half by half
    order = [values[place] for place in range(width) for values in scores] + [
        value for values in scores for value in values[width:]
    ]
    other = [values[place] for place in range(width) for values in losses] + [
        value for values in losses for value in values[width:]
    ]
    left = [iter(order), iter(other)]
    monkeypatch.setattr(heads, "balanced_accuracy_score", lambda *given: next(left[0]))
    monkeypatch.setattr(heads, "log_loss", lambda *given: next(left[1]))
    rng = np.random.default_rng(0)
    halves = [(np.arange(10), np.arange(10, 20))] * len(scores)
    assert (
        choose_strength(rng.standard_normal((20, 3)), np.eye(2, dtype=np.int64)[np.arange(20) % 2], halves, False)
        == best
    )


def test_many_clips_choose_the_strength_on_all_of_them(clouds: Clouds) -> None:
    """With 2000 clips of noisy classes a small C is best; with 9000 it costs accuracy on the held clips."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 12_000)
    centres = rng.standard_normal((5, 200))
    x = 0.12 * centres[classes] + rng.standard_normal((12_000, 200))
    target = np.eye(5, dtype=np.int64)[classes]
    fit, held = np.arange(9_000), np.arange(9_000, 12_000)
    chosen = choose_strength(x, target, [(fit, held)], multilabel=False)
    candidates = [strength_of(power) for power in range(-8, 3)]
    scores = [
        balanced_accuracy_score(target[held], answer)
        for answer in logistic_regression(x[fit], target[fit], x[held], candidates, multilabel=False)
    ]
    (score,) = (scores[candidates.index(chosen)],)
    assert score >= max(scores) - 0.002


@pytest.mark.parametrize("clips", [100, 20_000])
def test_the_network_trains_for_more_steps_where_there_are_more_clips(
    monkeypatch: pytest.MonkeyPatch, clips: int
) -> None:
    steps: list[int] = []
    learn = steps_module.learn

    def counted(*given: Any) -> Any:
        steps.append(given[2])
        return learn(given[0][:64], given[1][:64], 1, *given[3:])

    monkeypatch.setattr(steps_module, "learn", counted)
    target = np.eye(2, dtype=np.int64)[np.arange(clips) % 2]
    x = np.random.default_rng(0).standard_normal((clips, 4))
    mlp(x, Clips(target, np.arange(clips), np.arange(4), [], seed=0, multilabel=False))
    assert steps == [max(200, 25 * -(-clips // 256)) // 2]


def test_neighbours_in_blocks_equal_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, target = (
        rng.integers(0, 3, (400, 4)).astype(float),
        np.eye(3, dtype=np.int64)[rng.integers(0, 3, 400)],
    )  # many equal cosines
    target[rng.random(target.shape) < 0.1] = -1
    whole = knn(x[:300], target[:300], x[300:])
    monkeypatch.setattr(heads, "WORKING_MEMORY", 0.02)  # MiB: nine clips a block
    np.testing.assert_allclose(knn(x[:300], target[:300], x[300:]), whole)


def test_log_loss_counts_annotated_labels() -> None:
    answer = np.array([[0.9, 0.2], [0.5, 0.0]])
    assert log_loss(np.array([[1, -1], [0, -1]]), answer) == pytest.approx(-(np.log(0.9) + np.log(0.5)) / 2)
    assert log_loss(np.array([[1, 0], [-1, 1]]), answer) == pytest.approx(
        -(np.log(0.9) + np.log(0.8) + np.log(1e-6)) / 3
    )


def test_the_network_finds_what_no_line_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 2))
    classes = (x[:, 0] * x[:, 1] > 0).astype(int)
    target = np.eye(2, dtype=np.int64)[classes]
    fit, held, test = np.arange(300), np.arange(300, 400), np.arange(400, 600)
    curved = mlp(x, Clips(target, fit, test, [(fit, held)], seed=0, multilabel=False))
    (straight,) = logistic_regression(x[:400], target[:400], x[400:], [1.0], multilabel=False)
    assert (
        (curved.argmax(axis=1) == classes[400:]).mean() > 0.8 > 0.65 > (straight.argmax(axis=1) == classes[400:]).mean()
    )
    np.testing.assert_array_equal(curved, mlp(x, Clips(target, fit, test, [(fit, held)], seed=0, multilabel=False)))


def test_of_equal_distances_the_first_clips_are_the_nearest() -> None:
    distance, rows = heads._nearest(np.tile([[3.0, 4.0]], (300, 1)), np.array([[6.0, 8.0], [4.0, -3.0]]), 10)
    np.testing.assert_array_equal(rows, np.tile(np.arange(10), (2, 1)))
    np.testing.assert_allclose(distance, [[0.0] * 10, [1.0] * 10])
