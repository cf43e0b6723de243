"""Class scores from a fine-tuned model.

The classifier reads the mean of all real tokens of a clip, or the mean of its windows' CLS tokens. For a clip of one
window this equals its input in training; for a longer one it is the mean over the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32

from unheard.embedding.job import Options, Sound
from unheard.errors import AudioError, ConfigError
from unheard.model.classifier import Classifier

if TYPE_CHECKING:
    from unheard.embedding.embedder import Model


def classify_many(
    model: Model, sounds: Iterable[Sound], on_error: Callable[[Sound, AudioError], None] | None = None
) -> Iterator[tuple[Sound, Float32[np.ndarray, " C"]]]:
    """Classify clips of any length, in batches across them; yield each with its scores, in order. See `logits_many`."""
    for sound, logits in logits_many(model, sounds, on_error):
        classifier = classifier_of(model)
        yield sound, classifier.scores(torch.from_numpy(logits[None]))[0].numpy()


def logits_many(
    model: Model, sounds: Iterable[Sound], on_error: Callable[[Sound, AudioError], None] | None = None
) -> Iterator[tuple[Sound, Float32[np.ndarray, " C"]]]:
    """Yield each clip with its logits, in order.

    Parameters
    ----------
    model : Model
        A model with a classifier; its ``labels`` name the scores.
    sounds : iterable
        Paths, or arrays with their sample rate.
    on_error : callable, optional
        Called with each clip that cannot be read, and the error; without it the error is raised.

    Raises
    ------
    ConfigError
        When the model has no classifier.
    """
    classifier = classifier_of(model).to(model.device)
    cls = classifier.config.pool == "cls"
    for sound, embedding in model.embed_many(sounds, Options(frames=False, cls=cls), on_error):
        bands = 1 if cls else model.grid.freq
        with torch.inference_mode():
            tokens = torch.from_numpy(embedding.scene).to(model.device).reshape(1, bands, -1)
            logits: torch.Tensor = classifier(classifier.pool(tokens, tokens[:, 0]))[0]
        yield sound, logits.cpu().numpy()


def by_name(labels: Sequence[str], scores: Float32[np.ndarray, " C"]) -> dict[str, float]:
    """Return scores by the names of their classes, highest first; equal ones in the order of the classes."""
    return {labels[k]: float(scores[k]) for k in np.argsort(-scores, kind="stable")}


def classifier_of(model: Model) -> Classifier:
    """Return the classifier of a model.

    Raises
    ------
    ConfigError
        When it has none.
    """
    if model.classifier is None:
        raise ConfigError(
            "this model has no classifier, it only gives embeddings; fine-tune one with unheard finetune, or convert a"
            " fine-tuned file"
        )
    return model.classifier
