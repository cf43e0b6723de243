"""Prediction with a fine-tuned run: one model, or the average over the models of all folds and channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Float32

from unheard.addresses import named
from unheard.audio.waveform import Channel
from unheard.embedding.classify import by_name, classifier_of, logits_many
from unheard.embedding.embedder import Model, Precision, Sound
from unheard.embedding.loading import load_own
from unheard.errors import AudioError, CheckpointError
from unheard.finetuning.session import FinetuneSession, finished, read_session
from unheard.weights.built_in import local_model

Skip = Callable[[Sound, AudioError], None]
CHUNK = 64  # number of sounds processed by all models at a time; our choice


class ClassifierEnsemble:
    """Models that were fine-tuned on the same classes; their logits are averaged.

    Parameters
    ----------
    members : sequence of Model
        Each reads its own channel of a sound, see `ClassifierConfig`.

    Raises
    ------
    ConfigError
        When a model has no classifier.
    """

    def __init__(self, members: Sequence[Model]) -> None:
        self.members = list(members)
        for model in self.members:
            classifier_of(model)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes, in the order of the scores."""
        return self.members[0].labels

    @overload
    def predict(self, sound: Sound) -> dict[str, float]: ...

    @overload
    def predict(self, sound: list[Sound]) -> list[dict[str, float]]: ...

    def predict(self, sound: Sound | list[Sound]) -> dict[str, float] | list[dict[str, float]]:
        """Return the score of every class for a sound, highest first; for a list, return a list.

        Raises
        ------
        AudioError
            When a sound cannot be read.

        Examples
        --------
        >>> open_finetuned("runs/clf").predict("clip.wav")  # doctest: +SKIP
        {'dog': 0.93, 'rain': 0.04, 'drum': 0.03}
        """
        if isinstance(sound, list):
            return [by_name(self.labels, scores) for _, scores in self.scores(sound)]
        return by_name(self.labels, next(self.scores([sound]))[1])

    def scores(
        self, sounds: Iterable[Sound], skip: Skip | None = None
    ) -> Iterator[tuple[Sound, Float32[np.ndarray, " C"]]]:
        """Yield the scores of sounds in their order.

        Parameters
        ----------
        sounds : iterable of Sound
        skip : callable, optional
            Called with each sound that cannot be read, which is then skipped. Without it, the error is raised.
        """
        classifier = classifier_of(self.members[0])
        for sound, logits in self.logits(sounds, skip):
            yield sound, classifier.scores(torch.from_numpy(logits[None]))[0].numpy()

    def logits(
        self, sounds: Iterable[Sound], skip: Skip | None = None
    ) -> Iterator[tuple[Sound, Float32[np.ndarray, " C"]]]:
        """Yield the logits of sounds; see `scores`."""
        waiting = iter(sounds)
        while chunk := list(islice(waiting, CHUNK)):
            logits = [{id(sound): row for sound, row in logits_many(model, chunk, skip)} for model in self.members]
            for sound in chunk:
                if all(id(sound) in each for each in logits):
                    yield sound, np.asarray(np.mean([each[id(sound)] for each in logits], axis=0), np.float32)


def open_finetuned(path: str | Path, device: str = "auto", precision: Precision = "float32") -> ClassifierEnsemble:
    """Open a fine-tuned run, or a model folder with a classifier; its encoders compute at ``precision``.

    Raises
    ------
    CheckpointError
        When ``path`` is not a model, or some of its models are not trained yet.
    ConfigError
        When a model has no classifier.
    """
    run, session = local_model(path), session_of(path)
    if session is None or len(session.members) == 1:
        return ClassifierEnsemble([load_own(path, device, precision)])
    if not finished(run, session):
        raise CheckpointError(
            f"{named(path)} has models that are not trained yet; continue with: unheard finetune --resume {named(path)}"
        )
    return open_members(run, session, session.members, device, precision)


def open_members(
    run: Path,
    session: FinetuneSession,
    members: Sequence[tuple[str, Channel]],
    device: str = "auto",
    precision: Precision = "float32",
) -> ClassifierEnsemble:
    """Open some of the models of a run."""
    return ClassifierEnsemble(
        [load_own(session.folder(run, part, channel), device, precision) for part, channel in members]
    )


def session_of(path: str | Path) -> FinetuneSession | None:
    """Return the session of the fine-tuning run at ``path``; None if it is not one."""
    try:
        return read_session(local_model(path))
    except CheckpointError:
        return None
