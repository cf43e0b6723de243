"""Replay of a bad step of a pre-training run: the losses of its batch and of each window.

`unheard.finetuning.replay` is the same for fine-tuning runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unheard.config import override
from unheard.data.shard_layout import Texts
from unheard.errors import CheckpointError
from unheard.files import read_json
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.training.bad_batches import CHECKPOINT, STATE, recorded_step
from unheard.training.callbacks import Callbacks
from unheard.training.engine import Engine
from unheard.training.guards import all_finite
from unheard.training.initial import build_initialised
from unheard.training.loop import loader_of, prepare, take_step
from unheard.training.parallel.parts import one_by_one
from unheard.training.resume import open_session
from unheard.training.session import read_session


@dataclass(frozen=True)
class ReplayedWindow:
    """Losses of one window of a bad batch."""

    file: str
    start_seconds: float
    largest: float
    """Largest absolute value of the normalised spectrogram; not finite if the input is not."""
    losses: dict[str, float]
    """Losses of this window alone, by objective. In fine-tuning they are computed in evaluation mode."""

    @property
    def finite(self) -> bool:
        """Whether every loss is finite."""
        return all(abs(loss) < float("inf") for loss in self.losses.values())


@dataclass(frozen=True)
class Replay:
    """Result of a replayed step."""

    step: int
    losses: dict[str, float]
    """Losses of the whole batch, by objective."""
    windows: list[ReplayedWindow]
    weights_finite: bool
    """Whether the weights before the step are finite."""


def replay(
    run: str | Path,
    step: int | None = None,
    *,
    no_code: bool = False,
    device: str = "auto",
    report: Callbacks | None = None,
) -> Replay:
    """Repeat a recorded bad step of a pre-training run in one process. The run is not changed.

    Parameters
    ----------
    step : int, optional
        One of the recorded steps; default the latest.
    no_code : bool
        Refuse a run that needs to execute a recipe file.

    Raises
    ------
    CheckpointError
        When the step is not recorded.
    DataError
        When the corpus is not the one of the run.
    """
    run, report = Path(run), report or Callbacks()
    session = read_session(run, no_code, report.log)
    step, record = recorded_step(run, step)
    first = int(read_json(record / STATE, CheckpointError)["checkpoint_step"])
    session = replace(session, recipe=override(session.recipe, ["training.devices=1", "data.on_device=null"]))
    store, engine, inputs = open_session(run, session, device, report)
    learner = build_initialised(session.recipe, None if first else session.init)
    prepare(session, engine, learner, record / CHECKPOINT if first else None)
    loader = loader_of(session, store, engine, inputs, range(first, step))
    with loader:
        for index, batch in zip(loader.steps, loader, strict=True):
            if index < step - 1:
                take_step(session, engine, batch, index)
    learner.begin_step(TrainingProgress(step - 1, session.total))
    finite = all_finite(learner)
    losses = {
        name: float(value)
        for name, value in engine.losses_and_gradients(batch, step - 1).items()
        if name.startswith("loss")
    }
    return Replay(step, losses, _windows(engine, batch, store.names), finite)


@torch.no_grad()
def _windows(engine: Engine, batch: Batch, names: Texts) -> list[ReplayedWindow]:
    """Compute the losses of each window as a batch of one."""
    learner = engine.learner
    windows = []
    for single in one_by_one(batch):
        losses = learner.losses(single, learner.training_mask(single))
        values = {name: float(value) for name, value in losses.items() if name.startswith("loss/")}
        largest = float(single.spec.abs().max())
        windows.append(ReplayedWindow(names[int(single.clips[0])], float(single.start_seconds[0]), largest, values))
    return windows
