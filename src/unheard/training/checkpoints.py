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
from unheard.recipes.recipe import TrainingConfig
from unheard.training.engine import Engine
from unheard.training.optim import optimiser_state, restore_optimiser
from unheard.training.parallel.shard_files import read_whole, write_parts
from unheard.training.parallel.sharding import own_parts, whole_tensors
from unheard.training.session import Session
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, save_model
from unheard.weights.tensors import write_tensors

TENSORS = ("learner.safetensors", "optimiser.safetensors")
"""Tensor files of a checkpoint; a sharded run has one of each for every process. ``state.json`` has their checksums."""


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
    run: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, progress: RunState, training: TrainingConfig
) -> Path:
    """Write ``checkpoints/step-XXXXXXXX`` and delete all but those that the settings keep.

    The folder holds all weights (including the teacher), the optimiser state and the step. It is renamed to its final
    name only when it is complete.
    """

    def write(unfinished: Path) -> None:
        write_tensors(unfinished / TENSORS[0], dict(learner.state_dict()))
        write_tensors(unfinished / TENSORS[1], optimiser_state(optimiser, learner))
        write_json(unfinished / "state.json", {**vars(progress), FILES: file_checksums(unfinished, TENSORS)})

    return _replace(run, progress, training, write)


def is_due(step: int, training: TrainingConfig) -> bool:
    """Return whether a checkpoint is written after a step."""
    return step % training.checkpoint_every == 0 or _is_lasting(step, training)


def _is_lasting(step: int, training: TrainingConfig) -> bool:
    return training.keep_every is not None and step % training.keep_every == 0


def _replace(run: Path, progress: RunState, training: TrainingConfig, write: Callable[[Path], None]) -> Path:
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    replace_folder(folder, write)
    for old in checkpoints(run)[: -training.keep_checkpoints]:
        if not _is_lasting(int(old.name.removeprefix("step-")), training):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def save_sharded(run: Path, engine: Engine, progress: RunState, training: TrainingConfig) -> None:
    """Write a checkpoint as `save_checkpoint`, in which every process writes its part; all processes must call this."""
    first = engine.rank == 0
    states = (dict(engine.learner.state_dict()), optimiser_state(engine.optimiser, engine.learner))
    tensors = {name: own_parts(state, first) for name, state in zip(TENSORS, states, strict=True)}

    def write(unfinished: Path | None) -> None:
        shared = Path(engine.fabric.broadcast(str(unfinished)))
        checksums = write_parts(shared, tensors, engine.rank, engine.processes)
        if first:
            write_json(shared / "state.json", {**vars(progress), FILES: checksums})

    if first:
        _replace(run, progress, training, write)
    else:
        write(None)


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
    restore_weights(folder, learner)
    restore_moments(folder, learner, optimiser)


def restore_weights(folder: Path, learner: nn.Module) -> None:
    """Load the weights of a checkpoint into a learner that is not sharded.

    Raises
    ------
    CheckpointError
        When its tensors do not match the learner.
    """
    tensors = read_whole(folder / TENSORS[0], _read_state(folder)[1])
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder} does not match the configuration of the run: {str(error).splitlines()[-1].strip()}"
        ) from error


def restore_moments(folder: Path, learner: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Load the optimiser state of a checkpoint; of a sharded learner, the part of this process."""
    restore_optimiser(optimiser, learner, read_whole(folder / TENSORS[1], _read_state(folder)[1]))


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
        engine, state = self.engine, RunState(step, self.session.total, self.engine.kernel)
        training = self.session.recipe.training
        if engine.sharded:
            save_sharded(self.run, engine, state, training)
        elif engine.rank == 0:
            save_checkpoint(self.run, engine.learner, engine.optimiser, state, training)
        self.save_model(step)
        if engine.rank == 0:
            self.on_save(self.run)
        engine.wait()

    def save_model(self, step: int) -> None:
        """Write ``model/``; every process must call this."""
        recipe, statistics, learner = self.session.recipe, self.session.statistics, self.engine.learner
        tensors = whole_tensors(learner.export_state_dict(), self.engine.rank == 0)
        if self.engine.rank == 0:
            save_model(self.run / "model", learner, recipe, statistics, self.provenance(step), tensors=tensors)

    def provenance(self, step: int) -> Provenance:
        """Return the entries of the model card that describe this run."""
        trained = {
            "steps": f"{step} of {self.session.total}",
            "crops": step * self.session.recipe.training.batch_size,
            "corpus": f"{len(self.store.frames)} clips, {self.store.seconds_total / 3600:.2f} hours",
            "seed": self.session.recipe.training.seed,
        }
        return Provenance(source=f"pre-trained with unheard {__version__}", trained=trained)
