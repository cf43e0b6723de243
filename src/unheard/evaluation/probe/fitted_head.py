"""A linear head on scene embeddings that is kept: fitted as the probe's logistic regression, saved as a classifier.

    logits = W v + b;   scores = sigmoid(logits)

The standardisation of the fit is part of W and b, so that they apply to embeddings as they are. The saved model folder
holds the encoder and this head (`unheard.model.classifier`, pool "bands"): `unheard predict` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from unheard.embedding.embedder import Model
from unheard.errors import ConfigError
from unheard.evaluation.probe.heads import (
    REGULARISATION,
    Target,
    Vectors,
    independent_weights,
    logistic_regression,
    pca_project,
    standardisation,
)
from unheard.model.classifier import ClassifierConfig
from unheard.outputs import refuse_existing
from unheard.weights.checkpoint import build_classifier, is_model, save_model

FOLDS = 5
"""Folds of `cross_validated` (our choice)."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier of scene embeddings, with independent classes.

    Parameters
    ----------
    labels : tuple of str
    weight : Float32[ndarray, "C D"]
    bias : Float32[ndarray, "C"]
    """

    labels: tuple[str, ...]
    weight: Float32[np.ndarray, "C D"]
    bias: Float32[np.ndarray, " C"]

    def logits(self, vectors: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n C"]:
        """Return the logits of embeddings."""
        return np.asarray(vectors @ self.weight.T + self.bias, np.float32)


def fit_head(vectors: Vectors, target: Target, labels: Sequence[str], strength: float = REGULARISATION) -> LinearHead:
    """Fit one logistic regression for each class.

    Parameters
    ----------
    target : Int[ndarray, "n C"]
        1 if a clip has the class, 0 if not, -1 if that is not annotated.
    strength : float
        Inverse regularisation C.

    Raises
    ------
    ConfigError
        When a class has no clip with it, or none without it.
    """
    for number, name in enumerate(labels):
        if not (target[:, number] > 0).any() or not (target[:, number] == 0).any():
            raise ConfigError(f"the class {name} needs clips with it and clips without it; label some more")
    mean, scale = standardisation(vectors)
    train = (vectors.astype(np.float64) - mean) * scale
    projected, axes = pca_project(train, np.eye(train.shape[1]))  # rows of the second: the axes of each dimension
    weight, bias = next(independent_weights(projected, target, [strength]))
    raw = (axes @ weight.numpy()) * scale[:, None]
    return LinearHead(tuple(labels), raw.T.astype(np.float32), (bias.numpy() - mean @ raw).astype(np.float32))


def cross_validated(
    vectors: Vectors, target: Int[np.ndarray, " n"], strength: float = REGULARISATION, seed: int = 0
) -> Float[np.ndarray, " n"]:
    """Return for each clip the probability of a class, by a head that was fitted without the clip.

    Parameters
    ----------
    target : Int[ndarray, "n"]
        1 if a clip has the class, 0 if not. Folds have the same fraction of both.
    """
    found, rng = np.zeros(len(target)), np.random.default_rng(seed)
    fold = np.zeros(len(target), np.int64)
    for value in (0, 1):
        rows = rng.permutation(np.flatnonzero(target == value))
        fold[rows] = np.arange(len(rows)) % FOLDS
    for number in range(FOLDS):
        test, train = fold == number, fold != number
        if test.any():
            column = target[train][:, None]
            found[test] = logistic_regression(vectors[train], column, vectors[test], [strength], True)[0][:, 0]
    return found


@torch.inference_mode(mode=False)
def save_head(model: Model, head: LinearHead, folder: Path, overwrite: bool = False) -> None:
    """Write a model folder with the encoder of ``model`` and this head as its classifier.

    Raises
    ------
    ConfigError
        When the folder exists and is no model, or is one and ``overwrite`` is not set.
    """
    refuse_existing(folder, overwrite and is_model(folder), "choose another folder")
    seconds = model.grid.frames * model.config.frontend.hop_size / model.sample_rate
    config = ClassifierConfig(head.labels, activation="sigmoid", pool="bands", norm="none", window=seconds)
    classifier = build_classifier(config, model.config)
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(head.weight))
        classifier.head.bias.copy_(torch.from_numpy(head.bias))
    save_model(folder, model.learner, model.config, model.statistics, model.provenance, classifier.eval())
