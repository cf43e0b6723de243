"""A linear head on scene embeddings that is kept, and saved as a classifier.

    logits = W v + b;   scores = sigmoid(logits)

`unheard.evaluation.probe.rare_class` fits it; its whitening and calibration are part of W and b, which apply to
embeddings as they are. The saved model folder holds the encoder and this head (`unheard.model.classifier`, pool
"bands"): `unheard predict` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from unheard.embedding.embedder import Model
from unheard.model.classifier import ClassifierConfig
from unheard.outputs import refuse_existing
from unheard.weights.checkpoint import build_classifier, is_model, save_model


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier of scene embeddings, with independent classes.

    Parameters
    ----------
    labels : tuple of str
    weight : Float32[ndarray, "C D"]
    bias : Float32[ndarray, "C"]
    thresholds : tuple of float
        Score from which on each class is detected.
    """

    labels: tuple[str, ...]
    weight: Float32[np.ndarray, "C D"]
    bias: Float32[np.ndarray, " C"]
    thresholds: tuple[float | None, ...] = ()

    def logits(self, vectors: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n C"]:
        """Return the logits of embeddings."""
        return np.asarray(vectors @ self.weight.T + self.bias, np.float32)


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
    config = ClassifierConfig(head.labels, "sigmoid", "bands", "none", head.thresholds, window=seconds)
    classifier = build_classifier(config, model.config)
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(head.weight))
        classifier.head.bias.copy_(torch.from_numpy(head.bias))
    save_model(folder, model.learner, model.config, model.statistics, model.provenance, classifier.eval())
