"""The head of a rare class: on folders of Gaussian embeddings, with one percent of the class and an oracle."""

from collections.abc import Sequence

import numpy as np
import pytest

from unheard.errors import ConfigError
from unheard.evaluation.probe.rare_class import (
    PRECISION,
    ClassHead,
    WhitenedFolder,
    cross_validated,
    fit_class,
    joined,
    lowest_threshold,
)

CLIPS, WIDTH = 3000, 30


def folder(seed: int, distance: float = 7.0) -> tuple[np.ndarray, np.ndarray]:
    """Return correlated embeddings, and which percent of them has a class that lies apart in a weak direction."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((WIDTH, WIDTH)) * np.linspace(3, 0.2, WIDTH)[:, None]
    target = (np.arange(CLIPS) < CLIPS // 100).astype(np.int64)
    latent = rng.standard_normal((CLIPS, WIDTH))
    latent[:, -4] += distance * target
    order = rng.permutation(CLIPS)
    return (latent @ mixing + 2).astype(np.float32)[order], target[order]


def probability(head: ClassHead, vectors: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-(vectors @ head.weight + head.bias))))


def label(vectors: np.ndarray, target: np.ndarray, seed: int) -> tuple[ClassHead, list[int]]:
    """Answer forty questions: eight clips of the class, twelve others, then those with the smallest margin."""
    rng, space = np.random.default_rng(seed), WhitenedFolder(vectors)
    rows = [*rng.choice(np.flatnonzero(target), 8, False), *rng.choice(np.flatnonzero(target == 0), 12, False)]
    head = fit_class(space, np.array(rows), target[rows])
    margin = np.abs(probability(head, vectors) - 0.5)
    margin[rows] = np.inf
    rows += np.argsort(margin, kind="stable")[:20].tolist()
    return fit_class(space, np.array(rows), target[rows]), rows


@pytest.fixture(scope="module")
def labelled() -> list[tuple[np.ndarray, np.ndarray, ClassHead, list[int]]]:
    made = []
    for seed in range(6):
        vectors, target = folder(seed)
        made.append((vectors, target, *label(vectors, target, seed)))
    return made


def detections(
    labelled: Sequence[tuple[np.ndarray, np.ndarray, ClassHead, list[int]]],
) -> list[tuple[np.ndarray, np.ndarray, ClassHead]]:
    """Return the targets of each folder, which clips reach the threshold, and the head."""
    return [(target, probability(head, vectors) >= head.threshold, head) for vectors, target, head, _ in labelled]


def test_forty_answers_give_the_precision_at_the_threshold_of_the_head(labelled) -> None:
    for target, found, _ in detections(labelled):
        assert target[found].mean() >= PRECISION
        assert target[found].sum() >= 0.6 * target.sum()


def test_the_expected_precision_is_that_of_the_clips_without_an_answer(labelled) -> None:
    right = count = 0
    expected = 0.0
    for (target, found, head), (*_, rows) in zip(detections(labelled), labelled, strict=True):
        found[rows] = False
        assert head.detected == found.sum() and head.precision is not None and head.precision >= PRECISION
        right, count, expected = (
            right + target[found].sum(),
            count + found.sum(),
            expected + head.precision * found.sum(),
        )
    assert count > 60 and abs(right / count - expected / count) < 0.12


def test_a_class_that_embeddings_do_not_separate_detects_nothing() -> None:
    vectors, target = folder(0, distance=0.0)
    head, rows = label(vectors, target, 0)
    found = probability(head, vectors) >= head.threshold
    found[rows] = False
    assert head.threshold >= PRECISION and head.detected == found.sum() == 0 and head.precision is None


def test_the_head_does_not_depend_on_the_units_of_the_dimensions() -> None:
    vectors, target = folder(1)
    head, rows = label(vectors, target, 1)
    scaled = vectors * np.geomspace(0.01, 100, WIDTH).astype(np.float32) - 3
    other = fit_class(WhitenedFolder(scaled), np.array(rows), target[rows])
    assert other.detected == head.detected and other.threshold == pytest.approx(head.threshold, abs=0.01)
    np.testing.assert_allclose(probability(other, scaled), probability(head, vectors), atol=0.02)


@pytest.mark.parametrize("clips", [30, 3000])
def test_whitened_clips_are_uncorrelated_as_far_as_the_folder_shows_it(clips: int) -> None:
    vectors = folder(2)[0][:clips].copy()
    vectors[:, 5] = 1.5  # a constant dimension weighs nothing
    white = WhitenedFolder(vectors).whitened(np.arange(clips))
    variance = np.linalg.eigvalsh(white.T @ white / clips)
    assert variance.max() <= (WIDTH + clips) / clips + 1e-6 and np.isfinite(white).all()
    if clips > 10 * WIDTH:
        assert np.median(variance) > 0.8


def test_held_out_probabilities_are_those_of_heads_without_the_clip() -> None:
    rng = np.random.default_rng(0)
    vectors, target = rng.standard_normal((60, 30)), np.arange(60) % 2
    assert 0.3 < ((cross_validated(vectors, target) >= 0) == target).mean() < 0.7  # random vectors
    vectors[:, 0] += 6 * target
    assert ((cross_validated(vectors, target) >= 0) == target).mean() > 0.9


def test_the_threshold_is_the_lowest_with_the_mean_probability() -> None:
    threshold, count, expected = lowest_threshold(np.array([0.2, 0.9, 0.95, 0.6, 0.1]), 0.8)
    assert threshold == pytest.approx(0.4) and count == 3 and expected == pytest.approx(2.45 / 3)
    assert lowest_threshold(np.array([0.2, 0.7]), 0.8) == (0.8, 0, None)
    assert lowest_threshold(np.array([]), 0.8) == (0.8, 0, None)
    assert lowest_threshold(np.array([1.0, 1.0]), 0.8) == (1.0, 2, 1.0)


def test_several_classes_are_one_head_with_a_threshold_for_each(labelled) -> None:
    vectors, _, head, _ = labelled[0]
    both = joined([head, labelled[1][2]], ["a", "b"])
    assert both.labels == ("a", "b") and both.thresholds == (head.threshold, labelled[1][2].threshold)
    np.testing.assert_allclose(1 / (1 + np.exp(-both.logits(vectors)[:, 0])), probability(head, vectors), atol=1e-3)


def test_one_clip_of_a_class_is_refused() -> None:
    vectors, _ = folder(3)
    with pytest.raises(ConfigError, match="needs 2 clips with the class and 2 without it"):
        fit_class(WhitenedFolder(vectors), np.arange(10), (np.arange(10) < 1).astype(np.int64))
