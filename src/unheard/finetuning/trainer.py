"""Training of one model of a fine-tuning run, with model selection on validation clips.

batch -> augment -> loss and gradients -> optimiser -> average -> at the end of an epoch: validate, keep the best
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from unheard.config import to_json
from unheard.data.partitions import FoldIndices
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.errors import ConfigError, DataError
from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.clips import PackedLabelledClips
from unheard.finetuning.learning_rates import rate_at
from unheard.finetuning.loader import LabelledLoader
from unheard.finetuning.model_selection import BestModelTracker, detection_thresholds, scores
from unheard.finetuning.network import FinetuneModule, FinetuneSetup, Network, build_optimiser
from unheard.finetuning.validation import Validation
from unheard.model.classifier import Classifier
from unheard.training.bad_batches import BadBatches
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import RunState, checkpoints, is_due, read_progress, restore, save_checkpoint
from unheard.training.engine import Engine
from unheard.training.guards import NonFiniteGuard, Stop, ThroughputMeter, common_stop, graceful_shutdown
from unheard.training.journal import MetricsLogger
from unheard.training.session import total_steps
from unheard.weights.checkpoint import SavedModel, save_model


class FinetuneTrainer:
    """Train one model.

    Parameters
    ----------
    folder : Path
        Output folder for metrics, checkpoints and ``model/`` with the best weights.
    saved : SavedModel
        Result of `begin`; its encoder and classifier are trained in place.
    start : FinetuneSetup
    sounds : PackedLabelledClips
    part : FoldIndices
        Rows for training and for model selection.
    engine : Engine

    Raises
    ------
    DataError
        When none of the training clips, or none of a class, can be read. In `run`, when packed clips differ from their
        checksums; all clips are verified before it ends.
    ConfigError
        When batch normalisation would have batches of one clip.
    """

    def __init__(
        self,
        folder: Path,
        saved: SavedModel,
        start: FinetuneSetup,
        sounds: PackedLabelledClips,
        part: FoldIndices,
        engine: Engine,
    ) -> None:
        self.folder, self.saved, self.start, self.sounds, self.engine = folder, saved, start, sounds, engine
        self.train, self.valid = sounds.at(part.train), sounds.at(part.valid)
        if not len(self.train):
            raise DataError(
                "none of the training clips can be read; list the skipped files with: unheard data check FOLDER"
            )
        if missing := [start.classes[k] for k in np.flatnonzero(sounds.target.counts(self.train) == 0).tolist()]:
            reason = sounds.store.skipped[0].reason if sounds.store.skipped else "none is a training clip"
            raise DataError(
                f"no clip of the classes {', '.join(missing)} can be used for training; the first skipped one: {reason}"
            )
        training = start.recipe.training
        if start.recipe.task.norm == "batch" and training.batch_size // (engine.processes * training.accumulate) < 2:
            raise ConfigError(
                "task.norm=batch needs at least two clips in each part of a batch; set a larger training.batch_size"
            )
        assert isinstance(saved.classifier, Classifier)
        self.tuned = FinetuneModule(
            Network(saved.learner.model.encoder, saved.classifier, start.recipe.augment), start.recipe
        )
        self.verification = sounds.verification if engine.rank == 0 else None
        self.validation = Validation(sounds.store, self.valid, saved.statistics, engine, saved.learner.grid.frames)

    @property
    def width(self) -> int:
        """Frames of a training window: those of the encoder, or fewer if all clips are shorter."""
        grid = self.saved.learner.grid
        return grid.real_columns(int(self.sounds.store.frames[self.train].max())) * grid.patch_size[1]

    @property
    def total(self) -> int:
        """Number of steps of the whole run."""
        return total_steps(self.start.recipe.training, self.epoch_size)

    @property
    def epoch_size(self) -> int:
        """Number of clips of an epoch."""
        return min(self.start.recipe.task.epoch_clips or len(self.train), len(self.train))

    def run(self, report: Callbacks) -> RunState:
        """Train from the latest checkpoint or from the start, until the last step or Ctrl-C."""
        saved = checkpoints(self.folder)
        progress = read_progress(saved[-1]) if saved else None
        if progress is not None and progress.step >= progress.total:
            return progress
        engine, recipe, self.on_save = self.engine, self.start.recipe, report.on_save
        step = self.prepare(saved[-1] if saved else None)
        self.folder.mkdir(parents=True, exist_ok=True)
        loader = self.loader(range(step, self.total), engine.rank, engine.processes)
        if engine.rank == 0:
            report.log(self._line(loader.epoch_size))
        journal = (
            MetricsLogger(self.folder, step, self.total, report, to_json(recipe)) if engine.rank == 0 else nullcontext()
        )
        bad = BadBatches(self.folder, loader, recipe.training, engine, report.log)
        with loader, journal as rows, graceful_shutdown() as stopped:
            return self._loop(loader, bad, rows, stopped)

    def prepare(self, checkpoint: Path | None) -> int:
        """Set up the engine and restore a checkpoint. Return the steps done."""
        progress = None if checkpoint is None else read_progress(checkpoint)
        self.engine.setup_module(self.tuned, build_optimiser(self.tuned), progress.kernel if progress else None)
        self.tuned.train()
        if checkpoint is None or progress is None:
            return 0
        restore(checkpoint, self.tuned, self.engine.optimiser)
        return progress.step

    def loader(self, steps: range, rank: int, processes: int) -> LabelledLoader:
        """Return the loader of the batches of some steps, for one of several processes."""
        recipe = self.start.recipe
        plan = BatchPlan(steps, RankSlice(recipe.training.batch_size, rank, processes), self.engine.device)
        return LabelledLoader(self.sounds, self.train, recipe, self.saved.statistics, self.width, plan)

    def _line(self, epoch_size: int) -> str:
        training, grid = self.start.recipe.training, self.saved.learner.grid
        columns = self.width // grid.patch_size[1]
        return (
            f"training   {len(self.train)} clips, {len(self.valid)} for validation; {self.total} steps of"
            f" {training.batch_size}, {self.total * training.batch_size / epoch_size:.1f} epochs; {grid.freq} x"
            f" {columns} tokens per window; {self.engine.precision} on {self.engine.device.type}"
        )

    def _loop(
        self, loader: LabelledLoader, bad: BadBatches, rows: MetricsLogger | None, stopped: Callable[[], Stop]
    ) -> RunState:
        """Run the steps. Return the state after the last one."""
        engine, training, total = self.engine, self.start.recipe.training, self.total
        guard, meter = (
            NonFiniteGuard(self.folder, self.sounds.store.names, engine, bad.record),
            ThroughputMeter(loader, training.batch_size),
        )
        best, step = BestModelTracker(self.folder, self.start.recipe.task.patience), loader.steps.start
        state = RunState(step, total, engine.kernel)
        for batch in loader:
            value = self.take_step(step, {engine.rank: batch.clips})
            step += 1
            epoch_ends, early = self._epoch_end(step) is not None, False
            logged = epoch_ends or step % training.log_every == 0
            if value is None:
                bad.skip(step)
            else:
                guard.record(step, batch.rows, value)
            if epoch_ends or (value is not None and logged):
                guard.check()
                row = {"step": step, "epoch": step * training.batch_size / loader.epoch_size}
                row |= {} if value is None else {"loss": float(engine.mean(value))}
                row |= {"learning_rate": rate_at((step - 1) / total, self.start.recipe), **meter.lap(step)}
                if epoch_ends:
                    guard.check_weights(self.tuned, step)
                    valid_scores, early = self._choose(best, step)
                    row |= valid_scores
                if rows is not None:
                    rows.write(row)
            state = RunState(step, step if early else total, engine.kernel)
            ending = step == state.total or common_stop(engine, stopped(), logged) > Stop.NO
            if ending or is_due(step, training):
                guard.check_weights(self.tuned, step)
                self._checkpoint(state)
            if ending:
                break
        return state

    def _choose(self, best: BestModelTracker, step: int) -> tuple[dict[str, float], bool]:
        """Score the validation clips, and save the weights if they are the best so far.

        All processes compute logits; the first one computes the scores, writes them and broadcasts them. Return the
        validation scores, and whether patience is exhausted.
        """
        logits, first = self.logits() if len(self.valid) else None, self.engine.rank == 0
        valid_scores, valid = {}, () if logits is None else (logits, *self.sounds.marks(self.valid))
        if first and valid:
            valid_scores = scores(*valid, self.start.activation)
        if first and best.update(valid_scores):
            self._keep(step, valid_scores, detection_thresholds(*valid, self.start.activation) if valid else ())
        decision: tuple[dict[str, float], bool] = self.engine.fabric.broadcast((valid_scores, best.exhausted))
        return {f"valid/{name}": score for name, score in decision[0].items()}, decision[1]

    def take_step(self, step: int, clips: Mapping[int, AugmentBatch]) -> torch.Tensor | None:
        """Train on one batch, ``step`` steps after the start.

        Parameters
        ----------
        clips : mapping of int to AugmentBatch
            Parts of the batch by rank: in training that of this process, in a replay those of all processes.

        Returns
        -------
        Tensor or None
            The loss. None when bad batches may be skipped and the loss is not finite in some process; weights and
            buffers are then unchanged.
        """
        engine, skipping = self.engine, self.start.recipe.training.skip_bad_batches > 0
        saved_buffers = engine.saved_buffers() if skipping else []
        value = self.gradients(step, clips)
        bad = skipping and engine.any_rank(not bool(torch.isfinite(value)))
        if bad:
            engine.undo(saved_buffers)
        else:
            engine.step(rate_at(step / self.total, self.start.recipe))
        ended = self._epoch_end(step + 1)
        if not bad or ended is not None:
            self.tuned.after_step((step + 1) / self.total, ended)
        return None if bad else value

    def gradients(self, step: int, clips: Mapping[int, AugmentBatch]) -> torch.Tensor:
        """Return the loss of a batch, and set the gradients of the parameters. Parameters as in `take_step`."""
        total = torch.zeros((), device=self.engine.device)
        size, done = sum(len(part.values) for part in clips.values()), 0
        for rank, part in clips.items():
            self.engine.seed_step(step, rank)
            for piece in part.pieces(self.start.recipe.training.accumulate):
                done += len(piece.values)
                with self.engine.fabric.no_backward_sync(self.engine.module, enabled=done < size):
                    value: torch.Tensor = self.engine.module(piece) * (len(piece.values) / size)
                    self.engine.fabric.backward(value)
                total += value.detach()
        return total

    def _epoch_end(self, step: int) -> int | None:
        """Return the number of the epoch, from 1, that ends with a step; None if none does."""
        epoch, before = (each * self.start.recipe.training.batch_size // self.epoch_size for each in (step, step - 1))
        return epoch if step == self.total or epoch > before else None

    def logits(self) -> Float32[np.ndarray, "n C"]:
        """Return the logits of the validation clips with the weights to be saved; all processes must call this."""
        network = self.tuned.eval_network
        self.engine.align_buffers(network)
        network.eval()
        try:
            return self.validation.logits(network)
        finally:
            self.tuned.train()

    def _as_saved(self, thresholds: tuple[float | None, ...]) -> SavedModel:
        """Return the selected weights as a model; they are shared, not copied."""
        network, learner, frontend = self.tuned.eval_network, self.saved.learner, self.saved.recipe.frontend
        learner.model.encoder, frames = (
            network.encoder,
            min(self.width, int(self.sounds.store.frames[self.train].max())),
        )
        window = frames * frontend.hop_size / frontend.sample_rate
        network.classifier.config = replace(network.classifier.config, thresholds=thresholds, window=window)
        learner.eval()
        return replace(self.saved, classifier=network.classifier)

    def _keep(self, step: int, valid_scores: dict[str, float], thresholds: tuple[float | None, ...]) -> None:
        """Write the model folder, after the clips read so far were verified against their checksums."""
        self._verify()
        saved, training = self._as_saved(thresholds), self.start.recipe.training
        decision = {name: round(value, 4) for name, value in valid_scores.items()}
        trained: dict[str, Any] = {"fine-tuning recipe": self.start.recipe.name, "steps": f"{step} of {self.total}"}
        trained |= {"clips": len(self.train), "seed": training.seed, **({"validation": decision} if decision else {})}
        provenance = replace(saved.provenance, trained=trained)
        save_model(self.folder / "model", saved.learner, saved.recipe, saved.statistics, provenance, saved.classifier)
        self.tuned.train()

    def _verify(self, wait: bool = False) -> None:
        if self.verification is not None:
            self.verification.check(wait)

    def _checkpoint(self, progress: RunState) -> None:
        self._verify(wait=progress.step >= progress.total)
        if self.engine.rank == 0:
            save_checkpoint(self.folder, self.tuned, self.engine.optimiser, progress, self.start.recipe.training)
            self.on_save(self.folder)
        self.engine.wait()
