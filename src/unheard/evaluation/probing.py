"""Vectors of labelled clips: the model's, and the baselines every result is read against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unheard.audio.waveform import read
from unheard.data.label_table import Labels
from unheard.embedding.embedder import Model, Options, Sound
from unheard.embedding.pooling import Pool
from unheard.evaluation.probe import log_mel_embedding
from unheard.progress import Track, silent
from unheard.weights.built_in import random_like
from unheard.weights.checkpoint import SavedModel


def vectors(
    model: Model, labels: Labels, seeds: Sequence[int] = (0, 1, 2), pool: Pool = "mean", layer: int | None = None, track: Track = silent
) -> dict[str, Float[np.ndarray, ...]]:
    """Scene vectors of every clip of a label table.

    Returns
    -------
    dict of str to ndarray
        "model" (n, D); "random encoder" (R, n, D), the same network with fresh weights from each of ``seeds``; "log-mel mean+std"
        (n, 2 F), each band's mean and deviation over time.

    Raises
    ------
    AudioError
        When a clip cannot be read: a probe on part of a table would answer another question.
    """
    options = Options(layer=layer, pool=pool, frames=False)
    saved = SavedModel(model.learner, model.config, model.statistics, model.provenance)
    encoders = {"model": model, **{f"random encoder, seed {seed}": Model(random_like(saved, seed), model.device.type) for seed in seeds}}
    found: dict[str, list[np.ndarray]] = {}
    for name, encoder in encoders.items():
        sounds = track(sounds_of(labels), len(labels), f"embedding ({name})")
        found[name] = [embedding.scene for _, embedding in encoder.embed_many(sounds, options)]
    statistics = [log_mel(model, sound) for sound in track(sounds_of(labels), len(labels), "log-mel statistics")]
    return {
        "model": np.stack(found["model"]),
        "random encoder": np.stack([np.stack(found[f"random encoder, seed {seed}"]) for seed in seeds]),
        "log-mel mean+std": np.stack(statistics),
    }


def sounds_of(labels: Labels) -> Iterator[Sound]:
    """Each clip: a file, or the part of one that the table means."""
    for path, start, end in zip(labels.paths, labels.start, labels.end, strict=True):
        if start is None and end is None:
            yield path
        else:
            begin = start or 0.0
            yield read(path, start=begin, seconds=None if end is None else end - begin)


def log_mel(model: Model, sound: Sound) -> Float[np.ndarray, " D"]:
    """The simplest baseline: mean and standard deviation over time of each band of a model's front end."""
    wav, _ = read(sound, model.sample_rate) if isinstance(sound, str | Path) else (sound[0], sound[1])
    return log_mel_embedding(model.frontend.fast(wav).T)
