"""Open a stranger's checkpoint without running anything in it.

A released ``.pth`` is a pickle, and a pickle can name any function to call. Here only tensors, storages, plain containers and
NumPy scalars are built; configuration objects that training programs left inside (``argparse.Namespace``, fairseq's and
omegaconf's classes) become inert dictionaries; a file that names anything else is refused before it is read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from unheard.errors import CheckpointError
from unheard.weights.checkpoint import read_tensors

INERT = ("argparse.Namespace", "fairseq.", "omegaconf.", "typing.")
PREFIXES = ("module.ar.runtime.backbone.", "module.")  # fine-tuned by an evaluation program; wrapped for several GPUs


class Inert(dict[str, Any]):
    """Stands in for a configuration object: takes whatever the file says of it, does nothing."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(values)
        self["arguments"] = args

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {"state": state})


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """The state dictionary of a checkpoint: its ``model`` entry where there is one, wrappers' prefixes removed.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, names something outside the allow-list, or holds no tensors.
    """
    path = Path(file)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    content: Any = read_tensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    tensors = {_without_prefix(str(key)): value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors; its entries are {', '.join(str(key) for key in list(content)[:6])}")
    return tensors


def read_pickle(path: Path) -> Any:
    """The whole content of a torch checkpoint, through the allow-list.

    Raises
    ------
    CheckpointError
        As `load_tensors`.
    """
    try:
        foreign = get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # written before torch 1.6: its names cannot be listed beforehand, so only the basic list is open
        foreign = []
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path} is not a torch checkpoint, or is damaged ({error})") from error
    scalars = _numpy_scalars()
    refused = [name for name in foreign if name not in scalars and not name.startswith(INERT)]
    if refused:
        raise CheckpointError(
            f"{path} asks for {', '.join(sorted(refused))}, which could run code; only tensors and plain values are opened. "
            "Ask its author for a safetensors file or a plain state dictionary"
        )
    allowed: list[Any] = [(Inert, name) for name in foreign if name.startswith(INERT)] + [(value, name) for name, value in scalars.items()]
    try:
        with safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be opened safely: {str(error).splitlines()[0]}") from error


def _numpy_scalars() -> dict[str, Any]:
    """What NumPy numbers in a pickle are made of, under the names old and new NumPy write."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    named: dict[str, Any] = {"numpy.core.multiarray.scalar": scalar, "numpy._core.multiarray.scalar": scalar, "numpy.dtype": np.dtype}
    for code in "?bBhHiIlLqQefd":
        kind = type(np.dtype(code))
        named[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return named


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key
