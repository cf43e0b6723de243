"""Released checkpoints: opened without running anything in them, and renamed to our layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from unheard.errors import CheckpointError, ConfigError, UnheardError
from unheard.weights.allowlist import load_tensors
from unheard.weights.checkpoint import SavedModel
from unheard.weights.class_names import read_class_names, with_class_names
from unheard.weights.layouts import LAYOUTS
from unheard.weights.layouts.mae import Released
from unheard.weights.plausible import printable


@torch.inference_mode(mode=False)
def convert(
    file: str | Path,
    layout: str,
    name: str | None = None,
    settings: Iterable[str] = (),
    classes: str | Path | None = None,
) -> SavedModel:
    """Read a released checkpoint as a model.

    Parameters
    ----------
    file : path
        The released ``.pth``, ``.pt`` or ``.safetensors``.
    layout : str
        Whose keys it has: a name in `LAYOUTS`.
    name : str, optional
        Released name, where it tells the input size; taken from the path when left out.
    settings : iterable of str
        ``section.key=value`` for what neither shapes nor name tell, such as ``model.num_heads=3``.

    classes : path, optional
        A list of names for the classes of a fine-tuned file, see `read_class_names`; without it they are numbered.

    Raises
    ------
    ConfigError
        When layout or name are unknown, or the list does not fit.
    CheckpointError
        When the file holds anything but tensors and plain values, or its keys or shapes are not those of the layout.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    path, names = Path(file), None if classes is None else read_class_names(classes)
    released = Released(path, load_tensors(path), name or f"{path.parent.name}/{path.name}")
    try:
        saved = LAYOUTS[layout].read(released, settings)
    except UnheardError:
        raise
    except Exception as error:  # shapes and names of a stranger can go wrong in any way
        raise CheckpointError(
            f"{path} does not fit the layout {layout} ({printable(str(error))}); is --layout right?"
        ) from error
    return saved if names is None else with_class_names(saved, names)
