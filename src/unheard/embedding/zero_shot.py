"""Zero-shot classification: the label whose caption is nearest to the audio.

    p(label | clip) = softmax over labels of  scale cos(a, mean over templates of c(template with label))

a is computed from the mean over all real tokens of the clip, without a mask. c and the scale are those of the model
(`unheard.objectives.contrast`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from unheard.embedding.job import Options, Sound
from unheard.errors import AudioError, ConfigError
from unheard.objectives.contrast import ContrastiveLoss
from unheard.teachers.text import TextEncoder

if TYPE_CHECKING:
    from unheard.embedding.embedder import Model

TEMPLATES = ("{}", "the sound of {}", "a recording of {}")  # of the captions written for fetched corpora


class ZeroShot:
    """A model and the labels it selects from.

    Parameters
    ----------
    model : Model
        A model trained with captions.
    labels : sequence of str
        At least two, all different.
    templates : sequence of str
        Sentences with ``{}`` in place of a label; a label's vector is the mean over them.

    Raises
    ------
    ConfigError
        When the model was not trained with captions, or there are too few labels.
    """

    def __init__(self, model: Model, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> None:
        refuse_words(model)
        if len(labels) < 2 or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
            raise ConfigError(
                "zero-shot classification needs at least two different labels, such as 'dog, rain'; got"
                f" {', '.join(labels) or 'none'}"
            )
        self.model, self.labels = model, tuple(labels)
        self._contrast = cast(ContrastiveLoss, model.learner.objectives["contrast"])
        self._captions = caption_vectors(model, labels, templates)

    def scores(
        self, sounds: Iterable[Sound], skip: Callable[[Sound, AudioError], None] | None = None
    ) -> Iterator[tuple[Sound, Float32[np.ndarray, " L"]]]:
        """Yield each clip with the probabilities of the labels, in order; ``skip`` is called for clips that cannot be
        read.
        """
        for sound, embedding in self.model.embed_many(sounds, Options(frames=False), skip):
            with torch.inference_mode():
                yield sound, self._scores(torch.from_numpy(embedding.scene).to(self.model.device)).cpu().numpy()

    def _scores(self, scene: Float[Tensor, " fD"]) -> Float[Tensor, " L"]:
        audio = audio_vectors(self.model, scene[None])[0]
        return (self._contrast.scale() * audio @ self._captions.T).softmax(dim=0)


def refuse_words(model: Model) -> None:
    """Refuse a model that has no text side.

    Raises
    ------
    ConfigError
        When it was not trained with captions.
    """
    if "contrast" not in model.learner.objectives:
        raise ConfigError(
            "this model was not trained with captions, so it cannot read labels; train one with --recipe clap-mini"
        )


@torch.inference_mode()
def caption_vectors(model: Model, texts: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Float[Tensor, "L C"]:
    """Return a unit vector for each text: the mean over sentences with the text in place of ``{}``. Errors as
    `refuse_words`.
    """
    refuse_words(model)
    contrast = cast(ContrastiveLoss, model.learner.objectives["contrast"])
    encoder = TextEncoder(model.config.objectives.contrast.text)
    encoded = (encoder([template.format(text) for text in texts]).to(model.device) for template in templates)
    return F.normalize(torch.stack([contrast.captions(each) for each in encoded]).mean(dim=0), dim=-1)


@torch.inference_mode()
def audio_vectors(model: Model, scenes: Float[Tensor, "n fD"]) -> Float[Tensor, "n C"]:
    """Return a unit vector for each scene embedding, comparable with `caption_vectors`. Errors as `refuse_words`."""
    refuse_words(model)
    contrast = cast(ContrastiveLoss, model.learner.objectives["contrast"])
    return contrast.project_audio(scenes.reshape(len(scenes), model.grid.freq, -1).mean(dim=1))
