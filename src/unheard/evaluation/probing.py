"""Vectors of labelled clips: the model's, and the baselines every result is read against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unheard.audio.waveform import from_array, info, read
from unheard.data.label_table import Labels
from unheard.embedding.embedder import Model, Options, Sound
from unheard.embedding.pooling import Pool
from unheard.errors import AudioError
from unheard.evaluation.probe import log_mel_embedding
from unheard.progress import Track, silent
from unheard.weights.built_in import random_like
from unheard.weights.checkpoint import SavedModel

RANDOM, LOG_MEL = "random encoder", "log-mel mean+std"
SLACK = 0.05  # seconds a row may end after its file does before that is told; our choice


def baselines(
    model: Model, labels: Labels, seeds: Sequence[int], options: Options, track: Track = silent
) -> dict[str, Float[np.ndarray, ...]]:
    """Vectors of every clip that a model's are read against.

    Returns
    -------
    dict of str to ndarray
        "random encoder" (R, n, D), the same network with fresh weights from each of ``seeds``; "log-mel mean+std" (n, 2 F), each
        band's mean and deviation over time.

    Raises
    ------
    AudioError
        When a clip cannot be read: a probe on part of a table would answer another question.
    """
    saved = SavedModel(model.learner, model.config, model.statistics, model.provenance)
    untrained = [
        scenes(Model(random_like(saved, seed), model.device.type), labels, options, f"embedding (random encoder, seed {seed})", track)
        for seed in seeds
    ]
    statistics = [log_mel(model, sound) for sound in track(_sounds(labels), len(labels), LOG_MEL)]
    return {RANDOM: np.stack(untrained), LOG_MEL: np.stack(statistics)}


def layer_vectors(model: Model, labels: Labels, pool: Pool = "mean", track: Track = silent) -> Float[np.ndarray, "n L D"]:
    """Scene vectors of every block, from one pass over the sounds; the last one is normalised, as in `scenes`."""
    depth = len(model.encoder.transformer.blocks)
    flat = scenes(model, labels, Options(pool=pool, frames=False, layers=True), "embedding (all layers)", track)
    parts = 2 if pool == "mean+std" else 1
    return np.moveaxis(flat.reshape(len(flat), parts, depth, -1), 1, 2).reshape(len(flat), depth, -1)


def scenes(model: Model, labels: Labels, options: Options, told: str, track: Track = silent) -> Float[np.ndarray, "n D"]:
    """Scene vectors of every clip."""
    sounds = track(_sounds(labels), len(labels), told)
    return np.stack([embedding.scene for _, embedding in model.embed_many(sounds, options)])


def check_clips(labels: Labels, track: Track = silent) -> list[str]:
    """Look at the header of every clip before anything is embedded, and tell what is odd but usable.

    Raises
    ------
    AudioError
        When a file is no sound or holds none, or a row means a part that the file does not have.
    """
    bad, over = [], 0
    for row in track(range(len(labels)), len(labels), "reading headers"):
        path, start, end = labels.paths[row], labels.start[row] or 0.0, labels.end[row]
        try:
            seconds = info(path).seconds
        except AudioError as error:
            bad.append(f"row {row + 2}: {error}")
            continue
        if seconds == 0:
            bad.append(f"row {row + 2}: {path}: holds no samples")
        elif start >= seconds:
            bad.append(f"row {row + 2}: starts at {start:g} s, but {path} lasts {seconds:.3f} s")
        elif end is not None and end <= start:
            bad.append(f"row {row + 2}: ends at {end:g} s, which is not after its start at {start:g} s")
        over += end is not None and end > seconds + SLACK
    if bad:
        raise AudioError(f"{len(bad)} of {len(labels)} clips cannot be used; mend these rows or leave them out; the first, {bad[0]}")
    return [f"{over} clips end before the table says so; what is there was taken"] if over else []


def log_mel(model: Model, sound: Sound) -> Float[np.ndarray, " D"]:
    """The simplest baseline: mean and standard deviation over time of each band of a model's front end."""
    at = model.sample_rate
    wav = read(sound, at)[0] if isinstance(sound, str | Path) else from_array(sound[0], sound[1], at)
    return log_mel_embedding(model.frontend.fast(wav).T)


def _sounds(labels: Labels) -> Iterator[Sound]:
    return map(labels.sound, range(len(labels)))
