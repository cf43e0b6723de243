"""A linear head of a class that is rare in a folder, from few answers.

1. Whitening. The clips of the folder, nearly all without the class, give the mean and the covariance S of embeddings:

       z = (v - mean) S^(-1/2)

   S is shrunk towards the variances of the dimensions as if D clips with independent dimensions were added.
2. Logistic regression on the answered clips, in z.
3. Calibration (Platt 1999). A logistic regression maps the cross-validated logits of the answered clips to answers.
   The answered clips were selected by similarity and by logit, so they hold more of the class than the folder. The
   probability of the class at a given logit does not depend on how many clips with this logit were asked.
4. Threshold: the lowest probability from which on the clips without an answer have a mean probability of `PRECISION`.
   This mean is the precision that is expected on them.

The whitening and `PRECISION` are our choice; docs/log.md compares them on 29 classes of real sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from unheard.errors import ConfigError
from unheard.evaluation.probe.fitted_head import LinearHead
from unheard.evaluation.probe.heads import REGULARISATION, Vectors, independent_weights, pca_project, standardisation

FEWEST = 2
"""Clips with and without the class that a head needs: cross-validation leaves one out."""

FOLDS = 5
"""Folds of the cross-validation (our choice)."""

CALIBRATION = 3.0
"""Inverse regularisation C of the slope of the calibration (our choice)."""

LOWEST_SLOPE = 1e-3
"""Slope of a head whose cross-validated logits do not rise with the class: nearly equal probabilities (our choice)."""

PRECISION = 0.8
"""Expected precision of the detected clips that have no answer (our choice)."""

MOST = 10_000
"""Clips of a folder that the covariance is computed from (our choice)."""

Answers = Int[np.ndarray, " n"]
Rows = Int[np.ndarray, " n"]


class WhitenedFolder:
    """The embeddings of a folder, and the linear map after which their covariance is nearly the identity.

    Parameters
    ----------
    vectors : Float[ndarray, "N D"]
        Embeddings of all clips; the map is computed from at most `MOST` of them, selected at random.
    """

    def __init__(self, vectors: Float32[np.ndarray, "N D"]) -> None:
        self.vectors = vectors
        rows = np.random.default_rng(0).permutation(len(vectors))[:MOST]
        self.mean, scale = standardisation(vectors[rows])
        unit = (vectors[rows].astype(np.float64) - self.mean) * scale
        count, width = unit.shape
        shrinkage = width / (width + count)
        shrunk = (1 - shrinkage) / count * (unit.T @ unit) + shrinkage * np.eye(width)
        values, axes = np.linalg.eigh(shrunk)
        self.axes: Float[np.ndarray, "D D"] = scale[:, None] * axes / np.sqrt(values)

    def whitened(self, rows: Rows) -> Float[np.ndarray, "n D"]:
        """Return the whitened embeddings of some clips."""
        found: Float[np.ndarray, "n D"] = (self.vectors[rows].astype(np.float64) - self.mean) @ self.axes
        return found


@dataclass(frozen=True, eq=False)
class ClassHead:
    """The calibrated head of one class, with its threshold.

    Parameters
    ----------
    weight : Float[ndarray, "D"]
        For embeddings as they are.
    bias : float
    held_out : Float[ndarray, "n"]
        Probability of each answered clip, by a head that was fitted without it.
    threshold : float
        Probability from which on a clip is detected.
    detected : int
        Clips without an answer that reach the threshold.
    precision : float, optional
        Fraction of these that is expected to have the class; None if there is none.
    """

    weight: Float[np.ndarray, " D"]
    bias: float
    held_out: Float[np.ndarray, " n"]
    threshold: float
    detected: int
    precision: float | None


def fit_class(folder: WhitenedFolder, rows: Rows, target: Answers, strength: float = REGULARISATION) -> ClassHead:
    """Fit the head of a class on the answered clips of a folder, calibrate it, and choose its threshold.

    Parameters
    ----------
    rows : Int[ndarray, "n"]
        The answered clips.
    target : Int[ndarray, "n"]
        1 if a clip has the class, 0 if not; at least `FEWEST` of both.
    strength : float
        Inverse regularisation C.

    Raises
    ------
    ConfigError
        When there are fewer clips.
    """
    if min((target == 1).sum(), (target == 0).sum()) < FEWEST:
        raise ConfigError(f"a head needs {FEWEST} clips with the class and {FEWEST} without it; label some more")
    white = folder.whitened(rows)
    weight, bias = _fitted(white, target, strength)
    logits = cross_validated(white, target, strength)
    slope, shift = _calibration(logits, target)
    raw = slope * (folder.axes @ weight)
    offset = slope * bias + shift - float(folder.mean @ raw)
    probability = _sigmoid(folder.vectors @ raw.astype(np.float32) + offset)
    chosen = lowest_threshold(np.delete(probability, rows))
    return ClassHead(raw, offset, _sigmoid(slope * logits + shift), *chosen)


def joined(heads: Sequence[ClassHead], labels: Sequence[str]) -> LinearHead:
    """Return one head for several classes."""
    return LinearHead(
        tuple(labels),
        np.stack([head.weight for head in heads]).astype(np.float32),
        np.array([head.bias for head in heads], np.float32),
        tuple(head.threshold for head in heads),
    )


def lowest_threshold(
    probability: Float[np.ndarray, " n"], precision: float = PRECISION
) -> tuple[float, int, float | None]:
    """Return the lowest threshold at which the mean probability of the clips that reach it is ``precision``.

    Returns
    -------
    threshold : float
        Midway between two probabilities. If no clip reaches ``precision``, it is ``precision``: any clip that reaches
        that probability has the precision.
    count : int
        Clips that reach it.
    expected : float, optional
        Their mean probability; None if there are none.
    """
    ranked = -np.sort(-probability)
    means = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)  # never rises
    count = int((means >= precision).sum())
    if not count:
        return precision, 0, None
    return float(ranked[count - 1 : count + 1].mean()), count, float(means[count - 1])


def cross_validated(
    white: Vectors, target: Answers, strength: float = REGULARISATION, seed: int = 0
) -> Float[np.ndarray, " n"]:
    """Return for each clip the logit of a class, by a head that was fitted without the clip.

    Parameters
    ----------
    target : Int[ndarray, "n"]
        1 if a clip has the class, 0 if not; at least `FEWEST` of both. Folds have the same fraction of both.
    """
    found, fold, rng = np.zeros(len(target)), np.zeros(len(target), np.int64), np.random.default_rng(seed)
    for value in (0, 1):
        rows = rng.permutation(np.flatnonzero(target == value))
        fold[rows] = np.arange(len(rows)) % FOLDS
    for number in np.unique(fold):
        test = fold == number
        weight, bias = _fitted(white[~test], target[~test], strength)
        found[test] = white[test] @ weight + bias
    return found


def _fitted(white: Vectors, target: Answers, strength: float) -> tuple[Float[np.ndarray, " D"], float]:
    projected, axes = pca_project(white, np.eye(white.shape[1]))  # rows of the second: the axes of each dimension
    weight, bias = next(independent_weights(projected, target[:, None], [strength]))
    return axes @ weight[:, 0].numpy(), float(bias[0])


def _calibration(logits: Float[np.ndarray, " n"], target: Answers) -> tuple[float, float]:
    slope, shift = next(independent_weights(logits[:, None], target[:, None], [CALIBRATION]))
    return max(float(slope[0, 0]), LOWEST_SLOPE), float(shift[0])


def _sigmoid(logits: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray((1 + np.tanh(logits / 2)) / 2, np.float64)  # exp would overflow
