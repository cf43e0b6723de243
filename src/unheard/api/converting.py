"""Conversion of released checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.errors import ConfigError
from unheard.outputs import refuse_existing


def convert(
    file: str | Path, out: str | Path, layout: str, name: str | None = None, settings: Iterable[str] = (), *,
    classes: str | Path | None = None, overwrite: bool = False,
) -> Model:  # fmt: skip
    """Convert a released checkpoint to a model folder; the model card contains its licence.

    Parameters
    ----------
    layout : {"msm-mae", "m2d", "maskspec", "audiomae", "matpac"}
        Layout of the file.
    name, classes
        See `ConvertOptions`.
    """
    from unheard.weights.checkpoint import is_model, save_model
    from unheard.weights.published import convert as read

    refuse_existing(out, overwrite)
    if Path(out).exists() and not is_model(Path(out)):
        raise ConfigError(
            f"{out} is not a model folder, so --overwrite does not replace it; choose another -o, or delete it yourself"
        )
    saved = read(file, layout, name, settings, classes)
    save_model(Path(out), saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
    return load_own(out)
