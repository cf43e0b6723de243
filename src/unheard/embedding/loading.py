"""Load a model by path or by name: the one place that opens a MODEL that embeds."""

from __future__ import annotations

from pathlib import Path

from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.external import ExternalModel
from unheard.teachers.load import load_teacher
from unheard.weights.built_in import open_model
from unheard.weights.names import HEAR, HF


def load(name: str | Path, device: str = "cpu") -> Model | ExternalModel:
    """Load a model.

    Parameters
    ----------
    name : path or str
        A run folder, a model folder, or a built-in name: ``random-tiny`` ... ``random-large``, randomly initialised
        encoders. Compare every result with this baseline. Also ``hf:DIR``, the folder of a Hugging Face audio encoder,
        and ``hear:MODULE`` or ``hear:MODULE:WEIGHTS``, a module with the HEAR API; these embed and do nothing else.
    device : str
        Device of the encoder.

    Raises
    ------
    CheckpointError
        When there is no such model, or it cannot be read.
    ConfigError
        When a HEAR module cannot be loaded.
    DataError
        When the encoder of others gives features that are not finite or do not follow its hop.
    """
    text = str(name)
    return ExternalModel(text, load_teacher(text), device) if text.startswith((HF, HEAR)) else load_own(name, device)


def load_own(name: str | Path, device: str = "cpu") -> Model:
    """Load a model of this library, for what needs more than embeddings.

    Raises
    ------
    CheckpointError
        When there is no such model, or it is one of another library.
    """
    return Model(open_model(name), device)


def loaded(model: EmbeddingModel | str | Path, device: str = "cpu") -> EmbeddingModel:
    """Return a model; load it if a name or path is given."""
    return model if isinstance(model, EmbeddingModel) else load(model, device)


def own(model: EmbeddingModel | str | Path, device: str = "cpu") -> Model:
    """Return a model of this library; load it if a name or path is given.

    Raises
    ------
    CheckpointError
        When it is one of another library.
    """
    if isinstance(model, Model):
        return model
    return load_own(model.description if isinstance(model, EmbeddingModel) else model, device)
