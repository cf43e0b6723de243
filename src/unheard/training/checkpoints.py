"""Checkpoints of a run: all state needed to continue with identical results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unheard.errors import CheckpointError
from unheard.files import FILES, file_checksums, read_json, replace_folder, write_json
from unheard.model.transformer import AttentionKernel
from unheard.training.optim import optimiser_state, restore_optimiser
from unheard.weights.tensors import read_tensors, write_tensors

TENSORS = ("learner.safetensors", "optimiser.safetensors")
"""Tensor files of a checkpoint; ``state.json`` holds their checksums."""


@dataclass(frozen=True)
class RunState:
    """Progress of a run."""

    step: int
    """Optimiser steps done."""
    total: int
    """Steps of the whole run."""
    kernel: AttentionKernel
    """Attention kernel in use; kept for the rest of the run."""


def save_checkpoint(
    run: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, progress: RunState, keep: int
) -> Path:
    """Write ``checkpoints/step-XXXXXXXX`` and delete all but the latest ``keep``.

    The folder holds all weights (including the teacher), the optimiser state and the step. It is renamed to its final
    name only when it is complete.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"

    def write(unfinished: Path) -> None:
        write_tensors(unfinished / TENSORS[0], dict(learner.state_dict()))
        write_tensors(unfinished / TENSORS[1], optimiser_state(optimiser, learner))
        write_json(unfinished / "state.json", {**vars(progress), FILES: file_checksums(unfinished, TENSORS)})

    replace_folder(folder, write)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(folder for folder in (run / "checkpoints").glob("step-*") if (folder / "state.json").is_file())


def read_progress(folder: Path) -> RunState:
    """Return the progress stored in a checkpoint.

    Raises
    ------
    CheckpointError
        When its state is damaged.
    """
    return _read_state(folder)[0]


def restore(folder: Path, learner: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Load a checkpoint into a learner and its optimiser.

    Raises
    ------
    CheckpointError
        When its tensors do not match the learner.
    """
    checksums = _read_state(folder)[1]
    tensors = read_tensors(folder / TENSORS[0], checksums)
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder} does not match the configuration of the run: {str(error).splitlines()[-1].strip()}"
        ) from error
    restore_optimiser(optimiser, learner, read_tensors(folder / TENSORS[1], checksums))


def _read_state(folder: Path) -> tuple[RunState, dict[str, str]]:
    """Return the progress stored in a checkpoint, and the checksums of its tensors."""
    try:
        values = read_json(
            folder / "state.json", CheckpointError, "delete this checkpoint to resume from the one before"
        )
        checksums = values.pop(FILES)
        return RunState(**values), dict(checksums)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/state.json is damaged ({error}); delete this checkpoint to resume from the one before"
        ) from error
