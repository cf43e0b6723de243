"""What detection needs of a classifier, and the classifier of a fine-tuned run.

Any class with the attributes of `WindowClassifier` can be used for detection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from unheard.audio.frontend_kinds import build_frontend
from unheard.embedding.classify import classifier_of
from unheard.embedding.embedder import Model, Precision
from unheard.embedding.identity import fingerprint, precision_of
from unheard.errors import ConfigError
from unheard.finetuning.ensemble import ClassifierEnsemble, open_finetuned

Waveform = Float32[np.ndarray, " _"]


@runtime_checkable
class WindowClassifier(Protocol):
    """Scores of classes for windows of a recording."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the classes, in the order of the scores."""
        ...

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of the windows in Hz."""
        ...

    @property
    def window(self) -> float:
        """Return the default length of a window in seconds."""
        ...

    @property
    def multilabel(self) -> bool:
        """Return whether a window can have several classes; otherwise its scores sum to one."""
        ...

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """Return the threshold of each class that was chosen on validation clips; empty if none were."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that the scores depend on apart from the windows, as plain values."""
        ...

    def scores(self, windows: Sequence[Waveform]) -> Float[np.ndarray, "n C"]:
        """Return the scores of windows; their lengths may differ."""
        ...


class RunClassifier:
    """The classifier of a fine-tuned run: a `WindowClassifier`.

    Parameters
    ----------
    ensemble : ClassifierEnsemble
        One model, or several whose logits are averaged.
    source : str
        Name or path of the run, for the identity.

    Raises
    ------
    ConfigError
        When a model reads one channel of a file instead of the mean of all.
    """

    def __init__(self, ensemble: ClassifierEnsemble, source: str = "") -> None:
        channels = {classifier_of(model).config.channel for model in ensemble.members}
        if single := sorted(channels - {"mix"}):
            raise ConfigError(
                f"the input of this classifier is {', '.join(single)} of a sound, but windows are cut from the mean of"
                ' all channels; fine-tune with task.channels=["mix"]'
            )
        self.ensemble, self.source = ensemble, source
        self._models = ensemble.members

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the classes, in the order of the scores."""
        return self.ensemble.labels

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of the models in Hz."""
        return self._models[0].sample_rate

    @property
    def window(self) -> float:
        """Return the seconds that the models were trained with; those of the encoder if they are not stored."""
        stored = [classifier_of(model).config.window or _encoder_seconds(model) for model in self._models]
        return round(max(stored), 6)

    @property
    def multilabel(self) -> bool:
        """Return whether a window can have several classes."""
        return classifier_of(self._models[0]).config.activation == "sigmoid"

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """Return the mean over the models of the thresholds that each chose on its validation clips."""
        stored = [each for model in self._models if (each := classifier_of(model).config.thresholds)]
        found = [[value for value in column if value is not None] for column in zip(*stored, strict=True)]
        return tuple(float(np.mean(values)) if values else None for values in found)

    @property
    def identity(self) -> dict[str, Any]:
        """Return hashes of the models, their classes, the path of the run, and the precision if not float32."""
        precision = precision_of(self._models[0])
        return {"model": [_fingerprint(model) for model in self._models], "source": self.source, "precision": precision}

    def scores(self, windows: Sequence[Waveform]) -> Float[np.ndarray, "n C"]:
        """Return the scores of windows, (n, C).

        A window as long as that of the encoder is cut to whole frames, a hop at most, so that it is encoded at once.
        """
        model, rate = self._models[0], self.sample_rate
        frontend, frames = build_frontend(model.config.frontend), model.grid.frames
        longest = frontend.num_samples(frames + 1) - 1
        fits = round(_encoder_seconds(model) * rate)
        cut = [wav[:longest] if longest < len(wav) <= fits else wav for wav in windows]
        return np.stack([values for _, values in self.ensemble.scores([(wav, rate) for wav in cut])])


def open_classifier(path: str | Path, device: str = "auto", precision: Precision = "float32") -> RunClassifier:
    """Open a fine-tuned run, or a model folder with a classifier, for detection.

    Raises
    ------
    CheckpointError
        When ``path`` is not a model, or some of its models are not trained yet.
    ConfigError
        When a model has no classifier, or reads one channel.
    """
    return RunClassifier(open_finetuned(path, device, precision), str(path))


def _encoder_seconds(model: Model) -> float:
    """Return the length of the encoder's window in seconds."""
    return model.grid.frames * model.config.frontend.hop_size / model.sample_rate


def _fingerprint(model: Model) -> str:
    """Return a hash of the encoder and of the classifier."""
    digest, head = hashlib.sha256(fingerprint(model).encode()), classifier_of(model)
    digest.update(repr((head.config.labels, head.config.activation)).encode())
    for value in head.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
