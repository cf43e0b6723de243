"""Conversion of released checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from unheard.api.options import ConvertOptions, documented
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.errors import ConfigError
from unheard.outputs import refuse_existing
from unheard.remote.outputs import uploaded
from unheard.weights.checkpoint import SavedModel, is_model


@documented(ConvertOptions)
def convert(
    file: str | Path, out: str | Path, layout: str, name: str | None = None, settings: Iterable[str] = (), *,
    classes: str | Path | None = None, overwrite: bool = False,
) -> Model:  # fmt: skip
    """Convert a released checkpoint to a model folder; the model card contains its licence.

    Parameters
    ----------
    layout : {"msm-mae", "m2d", "maskspec", "audiomae", "matpac"}
        Layout of the file.
    out : path
        The model folder, also at an address.
    """
    from unheard.weights.published import convert as read

    _write(partial(read, file, layout, name, settings, classes), out, overwrite=overwrite)
    return load_own(out)


@uploaded("out")
def _write(read: Callable[[], SavedModel], out: str | Path, *, overwrite: bool) -> None:
    """Write the model folder of what is read."""
    from unheard.weights.checkpoint import save_model

    refuse_existing(out, overwrite, kind="folder")
    if Path(out).exists() and not is_model(Path(out)):
        raise ConfigError(
            f"{out} is not a model folder, so --overwrite does not replace it; choose another -o, or delete it yourself"
        )
    saved = read()
    save_model(Path(out), saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
