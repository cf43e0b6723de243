"""A module of sentence-transformers: ``from unheard.sentence_transformers import AudioEncoder``.

``SentenceTransformer(modules=[AudioEncoder("unheard-tiny")])`` encodes sounds: paths, dictionaries with ``array`` and
``sampling_rate``, or arrays at the sample rate of the model. The vectors equal those of ``embed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unheard.embedding.embedder import Model
from unheard.embedding.job import Layer, Options, Pool, dataset_sound
from unheard.embedding.loading import own
from unheard.errors import CheckpointError, ConfigError, require
from unheard.weights.built_in import DEFAULT
from unheard.weights.checkpoint import save_model

require("sentence_transformers", "sentence-transformers", "sentence-transformers")

from sentence_transformers.base.modules.input_module import InputModule  # noqa: E402

FOLDER = "model"
"""Folder of the model below that of the module."""


class AudioEncoder(InputModule):  # type: ignore[misc]
    """Scene vectors of sounds, as the first module of a ``SentenceTransformer``.

    Parameters
    ----------
    model : Model or str or Path
        A loaded model, a run, a model folder or a built-in name.
    layer, pool
        As in ``Model.embed``.

    Raises
    ------
    CheckpointError
        When there is no such model.
    ConfigError
        When the layer or pool does not exist, or gives no single vector.

    Examples
    --------
    >>> from sentence_transformers import SentenceTransformer  # doctest: +SKIP
    >>> encoder = SentenceTransformer(modules=[AudioEncoder("unheard-tiny")])  # doctest: +SKIP
    >>> encoder.encode(["dog.wav", "rain.wav"]).shape  # doctest: +SKIP
    (2, 960)
    """

    config_keys = ["layer", "pool"]  # noqa: RUF012 - the base class defines it so
    save_in_root = False

    def __init__(self, model: Model | str | Path = DEFAULT, layer: Layer = None, pool: Pool = "mean") -> None:
        super().__init__()
        if pool == "none":
            raise ConfigError("pool none gives no single vector; choose mean, mean+std or max")
        self.layer, self.pool = layer, pool
        self.model = own(model, "cpu")
        self.options = Options(layer, pool, None, False)
        self.model.check_options(self.options)
        self.encoder = self.model.learner  # a submodule, so that .to(device) moves it

    @property
    def modalities(self) -> list[str]:
        """Return the accepted kinds of input."""
        return ["audio"]

    def get_embedding_dimension(self) -> int:
        """Return D', the length of a vector."""
        return self.model.row_size(self.options)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **others: Any) -> dict[str, Any]:
        """Return the sounds of a batch, in forms that ``embed`` takes. Prompts have no effect on sounds."""
        return {"sounds": [dataset_sound(item, self.model.sample_rate) for item in inputs]}

    def forward(self, features: dict[str, Any], **others: Any) -> dict[str, Any]:
        """Add ``sentence_embedding``, float32 of the shape (B, D').

        Raises
        ------
        AudioError
            When a sound cannot be read.
        """
        scenes = [embedding.scene for _, embedding in self.model.embed_many(features["sounds"], self.options)]
        rows = torch.stack([torch.from_numpy(scene) for scene in scenes])
        return {**features, "sentence_embedding": rows.to(self.model.device)}

    def save(self, output_path: str, *others: Any, **more: Any) -> None:
        """Write the model folder, and the layer and pool."""
        saved = self.model.saved
        save_model(
            Path(output_path) / FOLDER,
            saved.learner,
            saved.recipe,
            saved.statistics,
            saved.provenance,
            saved.classifier,
        )
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **others: Any) -> AudioEncoder:
        """Read what `save` wrote, from a folder or from the Hugging Face Hub.

        Raises
        ------
        CheckpointError
            When the folder holds no model.
        """
        known = {key: others[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in others}
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **known)
        place = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **known)
        if place is None:
            raise CheckpointError(f"{model_name_or_path}: there is no folder {subfolder!r}; save the model again")
        return cls(Path(place) / FOLDER, **config)
