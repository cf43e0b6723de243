"""Vectors of labelled clips: those of the model and of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from unheard.audio.frontend import band_statistics
from unheard.audio.waveform import from_array, info, read
from unheard.data.label_table import Labels
from unheard.data.tables import ends_before
from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.external import ExternalModel
from unheard.embedding.job import Options, Pool, Sound
from unheard.embedding.loading import load_own
from unheard.errors import AudioError, ConfigError
from unheard.progress import Track, silent
from unheard.weights.built_in import reinitialised
from unheard.weights.checkpoint import SavedModel

Keep = Callable[[str, Callable[[], NDArray[Any]]], NDArray[Any]]
BASELINE = "random-tiny"  # what encoders of others are compared with, as in `unheard evaluate`
RANDOM, LOG_MEL = "random encoder", "log-mel mean+std"


def no_cache(name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Compute an array without caching."""
    return make()


def baselines(
    model: EmbeddingModel,
    labels: Labels,
    seeds: Sequence[int],
    options: Options,
    track: Track = silent,
    keep: Keep = no_cache,
) -> dict[str, Float[np.ndarray, "*shape"]]:
    """Return the vectors of the baselines; those of an encoder of others are `BASELINE` and its front end.

    Parameters
    ----------
    keep : callable
        Returns the cached array of a name, or computes it with the given function.

    Returns
    -------
    dict of str to ndarray
        "random encoder" (R, n, D): the same network, randomly initialised with each of ``seeds``. "log-mel mean+std"
        (n, 2 F): mean and deviation of each band over time.

    Raises
    ------
    AudioError
        When a clip cannot be read, because scores on a part of the table would not be comparable.
    """
    own = baseline_of(model)
    options = options if own is model else replace(options, layer=None)

    def untrained(seed: int) -> Float[np.ndarray, "n D"]:
        return scenes(random_encoder(own, seed), labels, options, f"embedding (random encoder, seed {seed})", track)

    def statistics() -> Float[np.ndarray, "n D"]:
        return np.stack([log_mel(own, sound) for sound in track(sounds_of(labels), len(labels), LOG_MEL)])

    random = np.stack([keep(f"random-{seed}", partial(untrained, seed)) for seed in seeds])
    return {RANDOM: random, LOG_MEL: keep("log-mel", statistics)}


def baseline_of(model: EmbeddingModel) -> Model:
    """Return the model whose network and front end are the baselines: ``model``, or `BASELINE` for one of others."""
    return model if isinstance(model, Model) else load_own(BASELINE, model.device.type)


def random_encoder(own: Model, seed: int) -> Model:
    """Return the same network, randomly initialised."""
    saved = SavedModel(own.learner, own.config, own.statistics, own.provenance)
    return Model(reinitialised(saved, seed), own.device.type, precision=own.precision)


def layer_vectors(
    model: EmbeddingModel, labels: Labels, pool: Pool = "mean", track: Track = silent
) -> Float[np.ndarray, "n L D"]:
    """Return the scene vectors of every layer from one pass; the last one is normalised, as in `scenes`.

    Raises
    ------
    ConfigError
        When the model has one output only.
    """
    if not model.depth:
        raise ConfigError(f"{model.description} has no layers to choose from; leave layers out")
    options = Options(every_layer(model), pool, frames=False)
    flat = scenes(model, labels, options, "embedding (all layers)", track)
    parts = 2 if pool == "mean+std" else 1
    rows = by_layer(model, flat.reshape(len(flat) * parts, -1)).reshape(len(flat), parts, model.depth, -1)
    return np.moveaxis(rows, 1, 2).reshape(len(flat), model.depth, -1)


def every_layer(model: EmbeddingModel) -> tuple[int, ...]:
    """Return the numbers of all layers of a model."""
    return tuple(range(1, model.depth + 1))


def by_layer(model: EmbeddingModel, rows: Float[np.ndarray, "t W"]) -> Float[np.ndarray, "t L f D"]:
    """Return rows of all layers with one axis each for layers, frequency bands and dimensions.

    Rows of our models join the bands of each layer; those of other encoders join the layers of each band.
    """
    if isinstance(model, ExternalModel):
        return rows.reshape(len(rows), bands_of(model), model.depth, -1).swapaxes(1, 2)
    return rows.reshape(len(rows), model.depth, bands_of(model), -1)


def bands_of(model: EmbeddingModel) -> int:
    """Return the number of frequency bands of a model's frames."""
    if isinstance(model, ExternalModel):
        return model.embedding_size // model.teacher.dim
    assert isinstance(model, Model)
    return model.grid.freq


def scenes(
    model: EmbeddingModel, labels: Labels, options: Options, description: str, track: Track = silent
) -> Float[np.ndarray, "n D"]:
    """Return the scene vectors of every clip."""
    sounds = track(sounds_of(labels), len(labels), description)
    return np.stack([embedding.scene for _, embedding in model.embed_many(sounds, options)])


def check_clips(labels: Labels, track: Track = silent) -> list[str]:
    """Check the header of every clip before anything is embedded. Return warnings.

    Raises
    ------
    AudioError
        When a file is not a sound file or is empty, or a row is outside its file.
    """
    bad, too_long = [], 0
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
        too_long += ends_before(seconds, end)
    if bad:
        raise AudioError(
            f"{len(bad)} of {len(labels)} clips cannot be used; correct or remove these rows; the first, {bad[0]}"
        )
    return [f"{too_long} clips end before the end given in the table; the existing part is used"] if too_long else []


def log_mel(model: Model, sound: Sound) -> Float[np.ndarray, " D"]:
    """Return mean and standard deviation over time of each band of the front end, the simplest baseline."""
    at = model.sample_rate
    wav = read(sound, at)[0] if isinstance(sound, str | Path) else from_array(sound[0], sound[1], at)
    return band_statistics(torch.from_numpy(model.frontend.spectrogram_cpu(wav).T)).numpy()


def sounds_of(labels: Labels) -> Iterator[Sound]:
    """Yield every clip of a table as model input."""
    return map(labels.sound, range(len(labels)))
