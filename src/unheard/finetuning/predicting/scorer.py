"""A model that scores files, by name: a fine-tuned one, or one that was trained with captions and reads labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from unheard.embedding.embedder import Model, Precision, Sound
from unheard.embedding.identity import fingerprint, precision_of
from unheard.embedding.loading import load_own
from unheard.embedding.zero_shot import ZeroShot
from unheard.errors import AudioError, ConfigError
from unheard.finetuning.ensemble import CHUNK, ClassifierEnsemble, open_finetuned, session_of
from unheard.version import __version__

Skip = Callable[[Sound, AudioError], None]


@dataclass(frozen=True)
class FileScorer:
    """A model that scores files.

    Parameters
    ----------
    name : str
        As it was given.
    labels : tuple of str
        Classes, in the order of the scores.
    models : tuple of Model
        Those that compute.
    predictor : ClassifierEnsemble or ZeroShot
    """

    name: str
    labels: tuple[str, ...]
    models: tuple[Model, ...]
    predictor: ClassifierEnsemble | ZeroShot

    def scores(self, files: Iterable[str], skip: Skip) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each file with its scores, in order. `CHUNK` files are computed together, counted from the first one.

        Parameters
        ----------
        skip : callable
            Called with each file that cannot be read, which is then left out.
        """
        waiting = iter(files)
        while group := list(islice(waiting, CHUNK)):
            yield from ((str(file), values) for file, values in self.predictor.scores(group, skip))

    def set_readers(self, threads: int) -> None:
        """Let ``threads`` threads read sounds."""
        for model in self.models:
            model.set_speed(threads, model.batch_size)

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that scores depend on apart from the files, as plain values."""
        digest = hashlib.sha256()
        for model in self.models:
            digest.update(fingerprint(model).encode())
            parts = [model.classifier] if model.classifier is not None else []
            for part in (*parts, *model.learner.objectives.values()):
                for value in part.state_dict().values():
                    digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return {
            "unheard": __version__,
            "model": digest.hexdigest(),
            "labels": list(self.labels),
            "precision": precision_of(self.models[0]),
        }


def open_scorer(name: str, device: str, precision: Precision = "float32", words: str | None = None) -> FileScorer:
    """Open a model that scores files.

    Parameters
    ----------
    name : str
        A run or a model folder.
    words : str, optional
        Classes, separated by commas, for a model that was trained with captions.

    Raises
    ------
    CheckpointError
        When there is no such model.
    ConfigError
        When the model has no classes, or the labels cannot be used.
    """
    if words is not None:
        model = load_own(name, device, precision)
        chosen = ZeroShot(model, [label.strip() for label in words.split(",") if label.strip()])
        return FileScorer(name, chosen.labels, (model,), chosen)
    tuned = None if session_of(name) is None else open_finetuned(name, device, precision)
    if tuned is None:
        model = load_own(name, device, precision)
        if not model.labels and "contrast" in model.learner.objectives:
            raise ConfigError(
                'this model was trained with captions and has no fixed classes; give them with --labels "dog, rain"'
            )
        tuned = ClassifierEnsemble([model])
    return FileScorer(name, tuned.labels, tuple(tuned.members), tuned)


def best(labels: Sequence[str], scores: np.ndarray, top: int) -> list[tuple[str, float]]:
    """Return the classes with the highest scores, highest first."""
    order = (-scores).argsort(kind="stable")[:top]
    return [(labels[i], float(scores[i])) for i in order]
