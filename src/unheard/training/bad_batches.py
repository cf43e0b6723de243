"""Batches with a non-finite loss: their updates are skipped up to a limit, and recorded for `replay`.

A record is the folder ``bad-step-XXXXXXXX`` of a run. ``state.json`` holds step, seed, clips and number of processes;
``checkpoint`` is the last checkpoint before the step. Each step depends only on its number and the previous state.
Repeating the steps from the checkpoint therefore restores the state before the bad step exactly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from unheard.data.store import Store
from unheard.errors import CheckpointError, DataError
from unheard.files import replace_folder, write_json
from unheard.recipes.recipe import TrainingConfig
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.engine import Engine

STATE, CHECKPOINT = "state.json", "checkpoint"
NAMED = 8
"""Maximum number of files listed in a message (our choice)."""


@runtime_checkable
class ClipLoader(Protocol):
    """Interface that `BadBatches` requires of a loader."""

    steps: range
    """The steps whose batches it prepares, counted from 0."""

    @property
    def store(self) -> Store:
        """The clips."""

    def clips_of(self, step: int) -> list[int]:
        """Return the indices of the clips in the batch of a step, over all processes."""


def records(run: Path) -> dict[int, Path]:
    """Return the records of a run by step."""
    found = sorted(folder for folder in run.glob("bad-step-*") if (folder / STATE).is_file())
    return {int(folder.name.rpartition("-")[2]): folder for folder in found}


def recorded_step(run: Path, step: int | None) -> tuple[int, Path]:
    """Return a recorded bad step and the folder of its record; the latest one if ``step`` is None.

    Raises
    ------
    CheckpointError
        When the step is not recorded.
    """
    bad_steps = records(run)
    if not bad_steps or (step is not None and step not in bad_steps):
        steps = f"recorded steps: {', '.join(map(str, bad_steps)) or 'none'}"
        raise CheckpointError(f"{run} has no record of {'a bad step' if step is None else f'step {step}'}; {steps}")
    step = max(bad_steps) if step is None else step
    return step, bad_steps[step]


def some_of(files: list[str]) -> str:
    """Return the first file names of a list and the number of the remaining ones."""
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


class BadBatches:
    """Skip, count and record batches with a non-finite loss.

    Parameters
    ----------
    run : Path
    loader : ClipLoader
    training : TrainingConfig
    engine : Engine
    log : callable
        Receives warnings.
    """

    def __init__(
        self,
        run: Path,
        loader: ClipLoader,
        training: TrainingConfig,
        engine: Engine,
        log: Callable[[str], None],
    ) -> None:
        self.run, self.loader, self.training, self.engine, self.log = run, loader, training, engine, log
        start = loader.steps.start
        if engine.rank == 0:
            for step, folder in records(run).items():
                if step > start:  # from a session whose steps after its last checkpoint are repeated
                    shutil.rmtree(folder)
        engine.wait()
        self.skipped = len(records(run))

    def skip(self, step: int) -> None:
        """Count a skipped update, and log a warning.

        Raises
        ------
        DataError
            When more batches are bad than ``training.skip_bad_batches`` allows.
        """
        allowed = self.training.skip_bad_batches
        if self.skipped >= allowed:
            raise DataError(
                f"the loss is not finite at step {step}, in a batch of {some_of(self.files(step))}; {self.skipped} bad"
                f" batches were already skipped, the limit set by training.skip_bad_batches; {self.record(step)}"
            )
        self.skipped += 1
        self.log(
            f"warning    step {step}: the loss is not finite; the update is skipped ({self.skipped} of at most"
            f" {allowed}); files of the batch: {some_of(self.files(step))}; {self.record(step)}"
        )

    def files(self, step: int) -> list[str]:
        """Return the files in the batch of a step, over all processes."""
        return list(dict.fromkeys(self.loader.store.names[clip] for clip in self.loader.clips_of(step - 1)))

    def record(self, step: int) -> str:
        """Write the data needed to repeat a step. Return a sentence that explains how to use it."""
        folder = self.run / f"bad-step-{step:08d}"
        if self.engine.rank == 0:
            saved = checkpoints(self.run)

            def write(unfinished: Path) -> None:
                if saved:
                    shutil.copytree(saved[-1], unfinished / CHECKPOINT, copy_function=_link)
                first = read_progress(saved[-1]).step if saved else 0
                clips = self.loader.clips_of(step - 1)
                names = [self.loader.store.names[clip] for clip in clips]
                write_json(
                    unfinished / STATE,
                    {
                        "step": step,
                        "checkpoint_step": first,
                        "seed": self.training.seed,
                        "processes": self.engine.processes,
                        "clips": clips,
                        "files": names,
                    },
                )

            replace_folder(folder, write)
        return f"repeat the step with: unheard debug replay {self.run}"


def _link(source: str, target: str) -> None:
    """Hard-link a file that is never changed in place; copy it if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
