"""The training loop of a pre-training run, in the order of a step.

batch -> mask -> losses and gradients -> before_step -> optimiser -> after_step -> journal -> checkpoint
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from unheard.config import to_json
from unheard.data.loader import PretrainLoader
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.store import Store
from unheard.model.masking import noise_size
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes.learner import PretrainModule
from unheard.training.bad_batches import BadBatches
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import (
    CheckpointWriter,
    checkpoints,
    is_due,
    read_progress,
    restore_moments,
    restore_weights,
)
from unheard.training.collapse import CollapseDetector
from unheard.training.engine import Engine, Losses
from unheard.training.external_inputs import ExternalInputs
from unheard.training.guards import NonFiniteGuard, Stop, ThroughputMeter, common_stop, graceful_shutdown
from unheard.training.journal import MetricsLogger
from unheard.training.optim import learning_rate, peak_learning_rate
from unheard.training.session import Session, sampler_of
from unheard.training.watch.watcher import Watcher

OVERHEAD = 1.2  # whole step over losses and gradients: optimiser, checkpoints; our choice


def latest(run: Path) -> Path | None:
    """Return the latest checkpoint of a run."""
    saved = checkpoints(run)
    return saved[-1] if saved else None


def prepare(session: Session, engine: Engine, learner: PretrainModule, checkpoint: Path | None) -> int:
    """Set up the engine and restore a checkpoint. Return the steps done."""
    if checkpoint is None:
        engine.setup(learner)
        return 0
    progress = read_progress(checkpoint)
    restore_weights(checkpoint, learner)  # before the engine may split them
    engine.setup(learner, progress.kernel)
    restore_moments(checkpoint, learner, engine.optimiser)
    return progress.step


def loader_of(session: Session, store: Store, engine: Engine, inputs: ExternalInputs, steps: range) -> PretrainLoader:
    """Return the loader of the batches of some steps."""
    recipe = session.recipe
    share = RankSlice(recipe.training.batch_size, engine.rank, engine.processes)
    plan = BatchPlan(steps, share, engine.device, recipe.data.mixtures)
    grid = engine.learner.grid
    numbers = noise_size(recipe.model, recipe.mask, grid)
    sampler = sampler_of(store, recipe)
    return PretrainLoader(store, sampler, grid, session.statistics, plan, inputs.added, numbers)


def measured_steps(session: Session, store: Store, engine: Engine, inputs: ExternalInputs) -> int:
    """Return the number of steps that fit into the minutes of a run on this machine, by the measured time of a step."""
    assert session.minutes is not None, "only runs of a given duration are measured"
    with loader_of(session, store, engine, inputs, range(1)) as loader:
        seconds = OVERHEAD * sorted(engine.benchmark_step(loader.peek()) for _ in range(3))[1]
    common = float(engine.mean(torch.tensor(seconds, device=engine.device)))
    return max(1, int(60 * session.minutes / common))


def take_step(session: Session, engine: Engine, batch: Batch, step: int) -> Losses | None:
    """Train on one batch, ``step`` steps after the start.

    Returns
    -------
    dict of Tensor or None
        The losses of `Engine.losses_and_gradients`. None when bad batches may be skipped and the loss is not finite in
        some process; weights and buffers are then unchanged.
    """
    training, learner, now = session.recipe.training, engine.learner, TrainingProgress(step, session.total)
    learner.begin_step(now)
    buffers = engine.saved_buffers() if training.skip_bad_batches else []
    losses = engine.losses_and_gradients(batch, step)
    if session.logged(step + 1):
        losses["gradient_norm"] = engine.gradient_norm()
    if training.skip_bad_batches and engine.any_rank(not bool(torch.isfinite(losses["loss"]))):
        engine.undo(buffers)
        return None
    learner.before_step(now)
    engine.step(rate_of(session, step))
    learner.after_step(TrainingProgress(step + 1, session.total))
    return losses


def rate_of(session: Session, step: int) -> float:
    """Return the learning rate of a step."""
    training, progress = session.recipe.training, TrainingProgress(step, session.total).progress
    rate = learning_rate(progress, peak_learning_rate(training), training.warmup)
    return max(training.min_learning_rate, rate)


class Loop:
    """Run all steps of the loader, or until Ctrl-C.

    Parameters
    ----------
    session : Session
    writer : CheckpointWriter
    loader : PretrainLoader
    report : Callbacks
    watcher : Watcher, optional
        Scores of a labelled table.

    Attributes
    ----------
    stop : Stop
        Why the steps ended before the last one.
    """

    def __init__(
        self,
        session: Session,
        writer: CheckpointWriter,
        loader: PretrainLoader,
        report: Callbacks,
        watcher: Watcher | None = None,
    ) -> None:
        self.watcher, self.stop = watcher, Stop.NO
        self.session, self.writer, self.loader, self.report = session, writer, loader, report
        self.engine, training = writer.engine, session.recipe.training
        self.bad = BadBatches(writer.run, loader, training, self.engine, report.log)
        self.guard = NonFiniteGuard(writer.run, writer.store.names, self.engine, self.bad.record)
        self.meter = ThroughputMeter(loader, training.batch_size, session.recipe.mask.views)
        self.collapse = CollapseDetector(self.engine.learner, report.log)

    def run(self) -> int:
        """Run the steps. Return the number of steps done.

        Raises
        ------
        DataError
            When the loss is not finite.
        """
        run, first, total = self.writer.run, self.loader.steps.start, self.session.total
        journal = (
            MetricsLogger(run, first, total, self.report, to_json(self.session.recipe))
            if self.engine.rank == 0
            else nullcontext()
        )
        with journal as rows, graceful_shutdown() as stopped:
            if rows is not None and self.watcher is not None and self.watcher.initial:
                rows.write({"step": first, "epoch": 0.0, **self.watcher.initial})
            step = self._steps(rows, stopped)
            if self.stop == Stop.REQUEUE:
                self.report.on_stop()
            return step

    def _steps(self, rows: MetricsLogger | None, stopped: Callable[[], Stop]) -> int:
        training, engine, guard, total = self.session.recipe.training, self.engine, self.guard, self.session.total
        step = self.loader.steps.start
        for batch in self.loader:
            losses = take_step(self.session, engine, batch, step)
            step += 1
            if losses is None:
                self.bad.skip(step)
            else:
                guard.record(step, batch.clips, losses["loss"])
            self.stop = common_stop(engine, stopped(), self.session.logged(step))
            ending = step == total or self.stop > Stop.NO
            saving = ending or is_due(step, training)
            if saving or self.session.logged(step):
                guard.check()
            if losses is not None and (ending or self.session.logged(step)):
                self._write(rows, step, losses)
            if saving:
                guard.check_weights(engine.learner, step)
                self.writer.save(step)
            if ending:
                break
        return step

    def _write(self, rows: MetricsLogger | None, step: int, losses: Losses) -> None:
        """Write a row of metrics."""
        engine, done = self.engine, TrainingProgress(step - 1, self.session.total)
        means = {name: float(engine.mean(value)) for name, value in losses.items()}
        epoch = step * self.session.recipe.training.batch_size / self.loader.epoch_size
        row = {"step": step, "epoch": epoch, **means, **engine.learner.schedules(done)}
        row |= {"learning_rate": rate_of(self.session, step - 1), **self.meter.lap(step)}
        if self.watcher is not None and self.session.watched(step):
            self.guard.check_weights(engine.learner, step)
            row |= self.watcher.scores()
            self.meter.lap(step)  # the time of the scores is not that of steps
        if rows is not None:
            rows.write(row)
            self.collapse.update(row)
