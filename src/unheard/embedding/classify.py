"""Class scores from a fine-tuned model.

The classifier reads the mean of all real tokens of a clip, or the mean of its windows' CLS tokens. For a clip of one
window this equals its input in training; for a longer one it is the mean over the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32

from unheard.audio.waveform import Channel, from_array, read
from unheard.embedding.job import Options, Sound, checked_sound
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
    """Yield each clip with its logits, in order. The input is the channel of the classifier.

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
    cls, ready = classifier.config.pool == "cls", _ChannelOf(classifier.config.channel, sounds, on_error)
    for given, embedding in model.embed_many(ready, Options(frames=False, cls=cls), ready.skip):
        sound = ready.original(given)
        bands = 1 if cls else model.grid.freq
        with torch.inference_mode():
            tokens = torch.from_numpy(embedding.scene).to(model.device).reshape(1, bands, -1)
            logits: torch.Tensor = classifier(classifier.pool(tokens, tokens[:, 0]))[0]
        yield sound, logits.cpu().numpy()


class _ChannelOf:
    """Sounds with the channel that is the input of a classifier; files are read when they are asked for."""

    def __init__(
        self, channel: Channel, sounds: Iterable[Sound], on_error: Callable[[Sound, AudioError], None] | None
    ) -> None:
        self.channel, self.sounds, self.on_error = channel, sounds, on_error
        self.skip = None if on_error is None else self._skip
        self._given: dict[int, tuple[Sound, Sound]] = {}  # both, so that no other sound gets the id

    def __iter__(self) -> Iterator[Sound]:
        for sound in self.sounds:
            try:
                made = sound if self.channel == "mix" else _channel(checked_sound(sound), self.channel)
            except AudioError as error:
                if self.on_error is None:
                    raise
                self.on_error(sound, error)
                continue
            if made is not sound:
                self._given[id(made)] = made, sound
            yield made

    def original(self, made: Sound) -> Sound:
        """Return the sound of a yielded one; it is forgotten."""
        return self._given.pop(id(made), (made, made))[1]

    def _skip(self, made: Sound, error: AudioError) -> None:
        assert self.on_error is not None
        self.on_error(self.original(made), error)


def _channel(sound: Sound, channel: Channel) -> Sound:
    if isinstance(sound, str | Path):
        return read(sound, channel=channel)
    return from_array(sound[0], sound[1], channel=channel), sound[1]


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
