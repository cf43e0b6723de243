"""Models of this library in mteb, the Massive Text and Audio Embedding Benchmark: ``import unheard.mteb``.

``mteb.evaluate(unheard.mteb.load("unheard-tiny"), mteb.get_benchmark("MAEB(v1, audio-only)"))`` runs the tasks that
need no text. Sounds of any rate and length are resampled and cut into windows here, so torchaudio is not needed. Where
mteb loads the model itself, from `model_meta`, it asks for its extra ``audio``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from unheard.embedding.embedder import Model
from unheard.embedding.job import Options, dataset_sound
from unheard.embedding.loading import own
from unheard.errors import ConfigError, require
from unheard.weights.built_in import DEFAULT

require("mteb", "mteb")

from mteb.models import ModelMeta  # noqa: E402
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402


class AudioEncoder(AbsEncoder):  # type: ignore[misc]
    """Scene vectors of sounds. The vector of a sound does not depend on its batch.

    Parameters
    ----------
    model_name, revision
        As mteb gives them.
    device : str, optional
        Default: the fastest one.
    model : Model or str or Path
        A loaded model, a run, a model folder or a built-in name.
    """

    def __init__(
        self, model_name: str, revision: str | None, device: str | None = None, *, model: Model | str | Path = DEFAULT,
        **others: Any,
    ) -> None:  # fmt: skip
        self.name, self.revision = model_name, revision
        self.model: Model = own(model, device or "auto")

    def encode(
        self, inputs: Any, *, task_metadata: Any = None, hf_split: str = "", hf_subset: str = "",
        prompt_type: Any = None, **others: Any,
    ) -> Float32[np.ndarray, "n D"]:  # fmt: skip
        """Return one vector for each sound of a loader of batches, in their order.

        Raises
        ------
        ConfigError
            When a batch has no sounds, as in tasks that need text.
        AudioError
            When a sound cannot be read.
        """
        inputs.collate_fn = _columns
        sounds = (dataset_sound(item, self.model.sample_rate) for batch in inputs for item in _audio(batch))
        rows = [embedding.scene for _, embedding in self.model.embed_many(sounds, Options(frames=False))]
        return np.stack(rows) if rows else np.empty((0, self.model.embedding_size), np.float32)


def load(model: str | Path = DEFAULT, name: str = "", *, device: str = "auto", **fields: Any) -> AudioEncoder:
    """Return a model with its description, for ``mteb.evaluate``.

    Parameters
    ----------
    fields
        As `model_meta`.
    """
    loaded = own(model, device)
    meta = _meta(loaded, str(model), name, **fields)
    encoder = AudioEncoder(meta.name, meta.revision, model=loaded)
    encoder.mteb_model_meta = meta
    return encoder


def model_meta(
    model: str | Path = DEFAULT,
    name: str = "",
    *,
    revision: str = "1",
    release_date: str | None = None,
    licence: str | None = "apache-2.0",
    training_datasets: Iterable[str] | None = None,
) -> ModelMeta:
    """Return the description of a model with which mteb loads and evaluates it.

    Parameters
    ----------
    model : str or Path
        A run, a model folder or a built-in name.
    name : str
        ``organisation/model``. Default: ``unheard/`` and the name of the folder.
    training_datasets : iterable of str, optional
        Names of mteb's datasets on which the model was trained. mteb marks scores on them. None: not known.

    Raises
    ------
    ConfigError
        When the name has not the form that mteb accepts.
    """
    return _meta(
        own(model, "cpu"),
        str(model),
        name,
        revision=revision,
        release_date=release_date,
        licence=licence,
        training_datasets=training_datasets,
    )


def _meta(
    loaded: Model, model: str, name: str, *, revision: str = "1", release_date: str | None = None,
    licence: str | None = "apache-2.0", training_datasets: Iterable[str] | None = None,
) -> ModelMeta:  # fmt: skip
    chosen = name or f"unheard/{Path(model).name}"
    if chosen.count("/") != 1 or not all(chosen.split("/")):
        raise ConfigError(f"name must have the form organisation/model; got {chosen!r}")
    count = sum(each.numel() for each in loaded.encoder.parameters())
    return ModelMeta(
        loader=partial(AudioEncoder, model=model),
        name=chosen,
        revision=revision,
        release_date=release_date,
        languages=[],
        n_parameters=count,
        memory_usage_mb=4 * count / 2**20,
        max_tokens=None,
        embed_dim=loaded.embedding_size,
        license=licence,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None if training_datasets is None else set(training_datasets),
        modalities=["audio"],
    )


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return a batch as lists by column, without a change of the values."""
    return {key: [row[key] for row in rows] for key in rows[0]}


def _audio(batch: dict[str, Any]) -> list[Any]:
    if "audio" not in batch:
        raise ConfigError(
            f"a batch has the columns {', '.join(sorted(batch))} and no sounds; this model has no text side, so choose"
            " tasks of sounds alone, such as MAEB(v1, audio-only)"
        )
    found: list[Any] = batch["audio"]
    return found
