"""Load a model by path or by name."""

from __future__ import annotations

from pathlib import Path

from unheard.embedding.embedder import Model
from unheard.weights.built_in import open_model


def load(name: str | Path, device: str = "cpu") -> Model:
    """Load a model.

    Parameters
    ----------
    name : path or str
        A run folder, a model folder, or a built-in name: ``random-tiny`` ... ``random-large``, randomly initialised
        encoders. Compare every result with this baseline.
    device : str
        Device of the encoder.

    Raises
    ------
    CheckpointError
        When there is no such model.
    """
    return Model(open_model(name), device)
