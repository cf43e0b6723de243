"""Read an untrusted checkpoint without executing code in it.

A released ``.pth`` is a pickle, and a pickle can call any function by name. Here only tensors, storages, plain
containers and NumPy scalars are built. Configuration objects of training programs (``argparse.Namespace``, classes of
fairseq and omegaconf) become inert dictionaries. A file that names anything else is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unheard.errors import CheckpointError
from unheard.weights.pickle_values import RefusedError
from unheard.weights.plausible import printable
from unheard.weights.tensors import read_tensors
from unheard.weights.unpickle import read_checkpoint

PROGRAMS = (
    "argparse.Namespace",
    "fairseq.",
    "omegaconf.",
    "typing.",
)  # names of configuration objects of training programs
BUILTIN_TYPES = {
    "collections.defaultdict",
    *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple")),
}
PREFIXES = ("module.ar.runtime.backbone.", "module.")  # of an evaluation program; of a wrapper for several GPUs
LONGEST_NAME = 300
"""Longest name of a tensor (our choice)."""


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """Return the state dictionary of a checkpoint: its entry ``model`` or ``state_dict``, if it has one.

    Prefixes of wrappers are removed.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, names something outside the allow-list, or holds no tensors.
    """
    path = Path(file)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    content: Any = read_tensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    for entry in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; give a file with a dictionary of tensors")
    named = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not named:
        raise CheckpointError(
            f"{path} holds no tensors; its entries are {', '.join(printable(str(key)) for key in list(content)[:6])}"
        )
    odd = [str(key) for key in named if not (isinstance(key, str) and key.isprintable() and len(key) <= LONGEST_NAME)]
    if odd:
        raise CheckpointError(
            f"{path} names a tensor {printable(odd[0])}, which is not printable text; it is not a checkpoint"
        )
    return {_without_prefix(key): value.detach() for key, value in named.items()}


def read_pickle(path: Path) -> Any:
    """Return the whole content of a torch checkpoint, read through the allow-list.

    Raises
    ------
    CheckpointError
        As `load_tensors`.
    """
    try:
        return read_checkpoint(path, _is_inert)
    except RefusedError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # untrusted bytes can raise anything
        raise _damaged(path, error) from error


def _is_inert(name: str) -> bool:
    """Return whether a name is that of a configuration, which becomes an `InertConfig`; the name is never imported."""
    return name.startswith(PROGRAMS) or name in BUILTIN_TYPES


def _refusal(path: Path, error: RefusedError) -> CheckpointError:
    why = f"asks for {printable(error.name)}, which could run code" if error.name else printable(str(error))
    return CheckpointError(
        f"{path} {why}; only tensors and plain values are read. Ask its author for a safetensors file or a plain"
        " state dictionary"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return CheckpointError(
        f"{path} is not a torch checkpoint, or is damaged ({reason}); give a file that torch.save wrote"
    )


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key
