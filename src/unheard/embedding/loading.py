"""Find a model by path or by name, ready to embed."""

from __future__ import annotations

from pathlib import Path

from unheard.embedding.embedder import Model
from unheard.weights.built_in import open_model


def load(name: str | Path, device: str = "cpu") -> Model:
    """Load a model.

    Parameters
    ----------
    name : path or str
        A run folder, a model folder, or a built-in name: ``random-tiny`` ... ``random-large``, encoders that were never
        trained, the baseline every result should be read against.
    device : str
        Where the encoder runs.

    Raises
    ------
    CheckpointError
        When there is no such model.
    """
    return Model(open_model(name), device)
