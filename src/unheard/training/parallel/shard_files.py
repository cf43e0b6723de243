"""Checkpoints of a sharded run: every process writes the parts that it has; any number of processes reads them.

``learner-00001-of-00002.safetensors`` holds the part of the first of two processes of each tensor. A tensor that is in
all files is split along its first axis, one that is in the first file only is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unheard.errors import CheckpointError
from unheard.files import file_checksums
from unheard.weights.tensors import read_tensors, write_tensors


def write_parts(folder: Path, tensors: Mapping[str, dict[str, Tensor]], rank: int, processes: int) -> dict[str, str]:
    """Write the tensors of this process into the folder that all processes share.

    Parameters
    ----------
    tensors : mapping
        Tensors by the name of their file, such as ``learner.safetensors``.

    Returns
    -------
    dict of str
        Checksums of the files of all processes, in every process.
    """
    names = []
    for name, values in tensors.items():
        names.append(f"{Path(name).stem}-{rank + 1:05d}-of-{processes:05d}{Path(name).suffix}")
        write_tensors(folder / names[-1], values)
    everyone: list[dict[str, str]] = [{}] * processes
    torch.distributed.all_gather_object(everyone, file_checksums(folder, names))
    return {name: checksum for each in everyone for name, checksum in each.items()}


def read_whole(file: Path, checksums: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of a file of a checkpoint, or join those of the files of several processes.

    Parameters
    ----------
    file : Path
        Its path in a checkpoint of one process.
    checksums : mapping
        All files of the checkpoint, with their checksums.

    Raises
    ------
    CheckpointError
        When a file is missing or damaged.
    """
    if file.name in checksums:
        return read_tensors(file, checksums)
    names = sorted(name for name in checksums if name.startswith(f"{file.stem}-"))
    if not names or not names[-1].endswith(f"-of-{len(names):05d}{file.suffix}"):
        raise CheckpointError(
            f"{file.parent} lacks {file.stem} files of some processes; delete this checkpoint to resume from the one"
            " before"
        )
    parts = [read_tensors(file.parent / name, checksums) for name in names]
    return {
        name: torch.cat([part[name] for part in parts]) if name in parts[-1] and len(parts) > 1 else value
        for name, value in parts[0].items()
    }
