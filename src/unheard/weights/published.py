"""Convert released checkpoints to our layout, without executing code in them."""

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
        Layout of its keys: a name in `LAYOUTS`.
    name : str, optional
        Released name, if the layout reads the input size from it. Default: from the path.
    settings : iterable of str
        ``section.key=value`` for values that are neither in the shapes nor in the name, such as ``model.num_heads=3``.

    classes : path, optional
        A list of class names for a fine-tuned file, see `read_class_names`; without it classes are numbered.

    Raises
    ------
    ConfigError
        When layout or name are unknown, or the list does not fit.
    CheckpointError
        When the file holds anything but tensors and plain values, or its keys or shapes are not those of the layout.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    path, names = Path(file), None if classes is None else read_class_names(classes)
    released = Released(path, load_tensors(path), name or f"{path.parent.name}/{path.name}")
    try:
        saved = LAYOUTS[layout].read(released, settings)
    except UnheardError:
        raise
    except Exception as error:  # untrusted shapes and names can raise anything
        raise CheckpointError(
            f"{path} does not fit the layout {layout} ({printable(str(error))}); check --layout"
        ) from error
    return saved if names is None else with_class_names(saved, names)
