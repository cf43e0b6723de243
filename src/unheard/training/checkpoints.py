"""Checkpoints of a run: all state needed to continue with identical results, and the latest model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unheard.data.open_store import Shards, Verification
from unheard.data.store import Store
from unheard.errors import CheckpointError
from unheard.files import FILES, file_checksums, read_json, replace_folder, write_json
from unheard.model.transformer import AttentionKernel
from unheard.training.engine import Engine
from unheard.training.optim import optimiser_state, restore_optimiser
from unheard.training.session import Session
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, save_model
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


class CheckpointWriter:
    """Save checkpoints and the latest model of a run, from the first process only.

    Parameters
    ----------
    run : Path
    session : Session
    store : Store
        Packed corpus, verified against its checksums as it is read.
    engine : Engine
    targets : sequence of Shards
        Stored targets, verified as well.
    on_save : callable
        Called with the run folder after every checkpoint.
    """

    def __init__(
        self,
        run: Path,
        session: Session,
        store: Store,
        engine: Engine,
        targets: Sequence[Shards] = (),
        on_save: Callable[[Path], None] = lambda run: None,
    ) -> None:
        self.on_save = on_save
        self.run, self.session, self.store, self.engine = run, session, store, engine
        self.verification = Verification(store, *targets) if engine.rank == 0 else None

    def save(self, step: int) -> None:
        """Write ``checkpoints/step-...`` and ``model/``.

        Raises
        ------
        DataError
            When the part of the packed corpus that was read differs from its checksums. After the last step, the whole
            corpus is verified.
        """
        if self.verification is not None:
            self.verification.check(wait=step >= self.session.total)
            state = RunState(step, self.session.total, self.engine.kernel)
            keep_checkpoints = self.session.recipe.training.keep_checkpoints
            save_checkpoint(self.run, self.engine.learner, self.engine.optimiser, state, keep_checkpoints)
            self.save_model(step)
            self.on_save(self.run)
        self.engine.wait()

    def save_model(self, step: int) -> None:
        """Write ``model/``."""
        recipe, statistics = self.session.recipe, self.session.statistics
        save_model(self.run / "model", self.engine.learner, recipe, statistics, self.provenance(step))

    def provenance(self, step: int) -> Provenance:
        """Return the entries of the model card that describe this run."""
        trained = {
            "steps": f"{step} of {self.session.total}",
            "crops": step * self.session.recipe.training.batch_size,
            "corpus": f"{len(self.store.frames)} clips, {self.store.seconds_total / 3600:.2f} hours",
            "seed": self.session.recipe.training.seed,
        }
        return Provenance(source=f"pre-trained with unheard {__version__}", trained=trained)
