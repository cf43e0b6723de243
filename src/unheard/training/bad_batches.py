"""Batches with a loss that is not finite: skipped as often as allowed, and recorded so that the step can be taken
again.

A record is the folder ``bad-step-XXXXXXXX`` of a run: ``state.json`` names step, seed and clips, ``checkpoint`` is the
last checkpoint before the step. A step is a function of its number and the state before it, so the steps between give
that state exactly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from unheard.data.store import Store
from unheard.errors import DataError
from unheard.files import replace_folder, write_json
from unheard.recipes.recipe import TrainingConfig
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.engine import Engine

STATE, CHECKPOINT = "state.json", "checkpoint"
NAMED = 8
"""Files that a message names at most (our choice)."""


@runtime_checkable
class Loaded(Protocol):
    """What `BadBatches` asks of a loader."""

    steps: range
    """The steps whose batches it prepares, counted from 0."""

    @property
    def store(self) -> Store:
        """The clips."""

    def clips_of(self, step: int) -> list[int]:
        """Numbers of the clips in the batch of a step, of all processes."""


def records(run: Path) -> dict[int, Path]:
    """Return the records of a run by step."""
    found = sorted(folder for folder in run.glob("bad-step-*") if (folder / STATE).is_file())
    return {int(folder.name.rpartition("-")[2]): folder for folder in found}


def some_of(files: list[str]) -> str:
    """Return the first file names of a list, and the number of the others."""
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


class BadBatches:
    """Skips, counts and records.

    Parameters
    ----------
    run : Path
    loader : Loaded
    training : TrainingConfig
    engine : Engine
    say : callable
        Takes a warning.
    replays : bool
        Whether `replay` can take a recorded step again: it reads runs of pre-training.
    """

    def __init__(
        self,
        run: Path,
        loader: Loaded,
        training: TrainingConfig,
        engine: Engine,
        say: Callable[[str], None],
        replays: bool = True,
    ) -> None:
        self.run, self.loader, self.training, self.engine, self.say, self.replays = (
            run,
            loader,
            training,
            engine,
            say,
            replays,
        )
        start = loader.steps.start
        if engine.rank == 0:
            for step, folder in records(run).items():
                if step > start:  # written by a session whose steps after its last checkpoint are taken again
                    shutil.rmtree(folder)
        engine.wait()
        self.skipped = len(records(run))

    def skip(self, step: int) -> None:
        """Count a batch whose update was skipped.

        Raises
        ------
        DataError
            When more are bad than may be skipped.
        """
        allowed = self.training.skip_bad_batches
        if self.skipped >= allowed:
            raise DataError(
                f"the loss is not finite at step {step}, in a batch of {some_of(self.files(step))}; {self.skipped} bad"
                f" batches were skipped before, as many as training.skip_bad_batches allows; {self.record(step)}"
            )
        self.skipped += 1
        self.say(
            f"warning    step {step}: the loss is not finite, so its update is skipped ({self.skipped} of at most"
            f" {allowed}); its batch is of {some_of(self.files(step))}; {self.record(step)}"
        )

    def files(self, step: int) -> list[str]:
        """Return the files of the batch of a step, of all processes."""
        return list(dict.fromkeys(self.loader.store.names[clip] for clip in self.loader.clips_of(step - 1)))

    def record(self, step: int) -> str:
        """Write what is needed to take a step again. Return a sentence on how to do that, or on where it is."""
        folder = self.run / f"bad-step-{step:08d}"
        if self.engine.rank == 0:
            saved = checkpoints(self.run)

            def write(place: Path) -> None:
                if saved:
                    shutil.copytree(saved[-1], place / CHECKPOINT, copy_function=_link)
                first = read_progress(saved[-1]).step if saved else 0
                clips = self.loader.clips_of(step - 1)
                names = [self.loader.store.names[clip] for clip in clips]
                write_json(
                    place / STATE,
                    {
                        "step": step,
                        "checkpoint_step": first,
                        "seed": self.training.seed,
                        "clips": clips,
                        "files": names,
                    },
                )

            replace_folder(folder, write)
        if not self.replays:
            return f"its clips and the last checkpoint are in {folder}"
        return f"take the step again with: unheard debug replay {self.run}"


def _link(source: str, target: str) -> None:
    """Link a file that is never changed in place; copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
