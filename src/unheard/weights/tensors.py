"""Safetensors files: reading with checksums, and writing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unheard.errors import CheckpointError
from unheard.files import differing_files

HALF = (torch.float16, torch.bfloat16)


def read_tensors(file: Path, checksums: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file, after comparing it with the checksums of its folder, if given.

    Half-precision values become float32.

    Raises
    ------
    CheckpointError
        When it is missing or damaged.
    """
    try:
        if checksums is not None and differing_files(file.parent, {file.name: checksums.get(file.name, "")}):
            raise CheckpointError(
                f"{file} differs from its checksum: it is damaged, truncated or replaced; copy the folder again"
            )
        tensors: dict[str, Tensor] = load_file(file)
        return {name: value.float() if value.dtype in HALF else value for name, value in tensors.items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors ({error}); copy the file again") from error


def write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises
    ------
    CheckpointError
        When the disk is full or cannot be written.
    """
    try:
        save_file(_packed(tensors), file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be written ({error}); free some space or choose another folder"
        ) from error


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
