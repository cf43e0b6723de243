"""Open a stranger's checkpoint without running anything in it.

A released ``.pth`` is a pickle, and a pickle can name any function to call. Here only tensors, storages, plain containers and
NumPy scalars are built; configuration objects that training programs left inside (``argparse.Namespace``, fairseq's and
omegaconf's classes) become inert dictionaries; a file that names anything else is refused before it is read.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickletools import genops
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER, get_unsafe_globals_in_checkpoint, safe_globals

from unheard.errors import CheckpointError
from unheard.weights.checkpoint import read_tensors

PROGRAMS = ("argparse.Namespace", "fairseq.", "omegaconf.", "typing.")  # what configuration objects of training programs are called
PLAIN = {"collections.defaultdict", *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple"))}
OLD_MAGIC = pickle.dumps(MAGIC_NUMBER, protocol=2)  # how torch.save began before torch 1.6
OLD_PICKLES = 4  # magic number, version, system, content; then the bytes of the storages
TORCH_ADVICE = "from a trusted source."  # the last words of torch's advice to open a file unsafely
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
    scalars = _numpy_scalars()
    try:
        foreign = _names(path)
        refused = [name for name in foreign if name not in scalars and not _is_inert(name)]
        if refused:
            raise _refusal(path, refused)
        inert: list[Any] = [(Inert, name) for name in foreign if _is_inert(name)]
        with safe_globals(inert + [(value, name) for name, value in scalars.items()]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols: what cannot be read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a stranger's bytes can go wrong in any way
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise _refusal(path, [asked[1]]) if asked else _damaged(path, error) from error


def _names(path: Path) -> list[str]:
    """Names a checkpoint asks for beyond those torch trusts; of the format before torch 1.6 only those that become inert.

    Nothing is looked up or run. Whatever is not found here is refused by torch's loader.
    """
    with path.open("rb") as file:
        if file.read(len(OLD_MAGIC)) != OLD_MAGIC:
            return get_unsafe_globals_in_checkpoint(path)
        file.seek(0)
        asked = [str(value).replace(" ", ".") for _ in range(OLD_PICKLES) for op, value, _ in genops(file) if op.name == "GLOBAL"]
    return [name for name in asked if _is_inert(name)]


def _is_inert(name: str) -> bool:
    """Whether a name is that of configuration, which becomes an `Inert`; the name itself is never looked up."""
    return name.startswith(PROGRAMS) or name in PLAIN


def _refusal(path: Path, names: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{path} asks for {', '.join(sorted(names))}, which could run code; only tensors and plain values are opened. "
        "Ask its author for a safetensors file or a plain state dictionary"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    """The first sentence of what is wrong, without torch's advice to open the file unsafely."""
    said = str(error).rpartition(TORCH_ADVICE)[2].rpartition("WeightsUnpickler error:")[2].strip()
    reason = re.split(r"(?<=\w)\. |\n", said)[0] or type(error).__name__
    return CheckpointError(f"{path} is not a torch checkpoint, or is damaged ({reason.rstrip('.')}); expected what torch.save writes")


def _numpy_scalars() -> dict[str, Any]:
    """What NumPy numbers in a pickle are made of, under the names old and new NumPy write."""
    scalar = np.float64().__reduce__()[0]  # its module has another name in each major version of NumPy
    named: dict[str, Any] = {"numpy.core.multiarray.scalar": scalar, "numpy._core.multiarray.scalar": scalar, "numpy.dtype": np.dtype}
    for code in "?bBhHiIlLqQefd":
        kind = type(np.dtype(code))
        named[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return named


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key
