"""A bad step of a run, taken again: the losses of its batch, as a whole and of each window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unheard.errors import CheckpointError
from unheard.files import read_json
from unheard.model import masking
from unheard.objectives.base import Batch
from unheard.objectives.schedules import TrainingProgress
from unheard.training.bad_batches import CHECKPOINT, STATE, records
from unheard.training.callbacks import Callbacks
from unheard.training.engine import Engine, one_by_one
from unheard.training.initial import begun
from unheard.training.loop import loader_of, prepare, take_step
from unheard.training.pretrain import open_session
from unheard.training.session import read_session


@dataclass(frozen=True)
class ReplayedWindow:
    """One window of a bad batch."""

    file: str
    start_seconds: float
    largest: float
    """Largest absolute value of its normalised spectrogram; not finite where the input is not."""
    losses: dict[str, float]
    """Of this window alone, by objective."""

    @property
    def finite(self) -> bool:
        """Whether every loss is a number."""
        return all(abs(loss) < float("inf") for loss in self.losses.values())


@dataclass(frozen=True)
class Replay:
    """What a bad step gives when it is taken again."""

    step: int
    losses: dict[str, float]
    """Of the whole batch, by objective."""
    windows: list[ReplayedWindow]
    weights_finite: bool
    """Whether the weights before the step are."""


def replay(
    run: str | Path,
    step: int | None = None,
    *,
    no_code: bool = False,
    device: str = "auto",
    report: Callbacks | None = None,
) -> Replay:
    """Take a recorded bad step of a pre-training run again, in one process. The run is not changed.

    Parameters
    ----------
    step : int, optional
        Which of the recorded steps; the latest when left out.
    no_code : bool
        Refuse a run whose objectives are those of a recipe file, which is run.

    Raises
    ------
    CheckpointError
        When nothing is recorded there.
    DataError
        When the corpus is not the one the run began with.
    """
    run, found, report = Path(run), records(Path(run)), report or Callbacks()
    session = read_session(run, no_code, report.say)
    if not found or (step is not None and step not in found):
        steps = f"it has recorded the steps {', '.join(map(str, found))}" if found else "it has recorded none"
        raise CheckpointError(f"{run} has no such bad step to take again; {steps}")
    step = max(found) if step is None else step
    first = int(read_json(found[step] / STATE, CheckpointError)["checkpoint_step"])
    session = replace(session, recipe=replace(session.recipe, training=replace(session.recipe.training, devices=1)))
    store, engine, companions = open_session(run, session, device, report)
    learner = begun(session.recipe, None if first else session.init)
    prepare(session, engine, learner, found[step] / CHECKPOINT if first else None)
    loader = loader_of(session, store, engine, companions, range(first, step))
    with loader:
        for index, batch in zip(loader.steps, loader, strict=True):
            if index < step - 1:
                take_step(session, engine, batch, index)
    learner.begin_step(TrainingProgress(step - 1, session.total))
    finite = bool(torch.stack([parameter.isfinite().all() for parameter in learner.parameters()]).all())
    losses = {
        name: float(value)
        for name, value in engine.losses_and_gradients(batch, step - 1).items()
        if name.startswith("loss")
    }
    return Replay(step, losses, _windows(engine, batch, store.names), finite)


@torch.no_grad()
def _windows(engine: Engine, batch: Batch, names: list[str]) -> list[ReplayedWindow]:
    """Give each window to the learner as a batch of its own."""
    learner = engine.learner
    found = []
    for one in one_by_one(batch):
        mask = masking.training_mask(learner.recipe.model, learner.grid, one.noise, one.valid)
        values = {name: float(value) for name, value in learner(one, mask).items() if name.startswith("loss/")}
        largest = float(one.spec.abs().max())
        found.append(ReplayedWindow(names[int(one.clips[0])], float(one.start_seconds[0]), largest, values))
    return found
