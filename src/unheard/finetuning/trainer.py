"""One model of a fine-tuning run: its folder, the loop, and the choice of its best weights on validation clips.

batch -> augment -> loss and gradients -> optimiser -> average -> at the end of an epoch: score the validation clips,
keep the best
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from unheard.data.partitions import FoldIndices
from unheard.data.prefetch import RankSlice
from unheard.errors import ConfigError, DataError
from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.loader import LabelledLoader, PackedLabelledClips
from unheard.finetuning.model_selection import BestModelTracker, scores
from unheard.finetuning.network import FinetuneModule, Network, build_optimiser
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.schedule import rate_at
from unheard.finetuning.validation import Validation
from unheard.model.classifier import Classifier, ClassifierConfig
from unheard.recipes.learner import build
from unheard.training.bad_batches import BadBatches
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import RunState, checkpoints, read_progress, restore, save_checkpoint
from unheard.training.engine import Engine
from unheard.training.guards import NonFiniteGuard, ThroughputMeter, graceful_shutdown
from unheard.training.journal import MetricsLogger
from unheard.training.session import total_steps
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, SavedModel, build_classifier, save_model


@dataclass(frozen=True)
class FinetuneSetup:
    """What every model of a run begins with."""

    recipe: FinetuneRecipe
    classes: tuple[str, ...]
    activation: str
    source: str
    """Name or path of the model that is fine-tuned."""


def begin(saved: SavedModel, start: FinetuneSetup) -> SavedModel:
    """A fresh classifier on a copy of a trained encoder.

    Where patch tokens are pooled the encoder's final norm makes way for the classifier's, as MaskSpec and AudioMAE have
    it.
    """
    task, adapt, training = start.recipe.task, start.recipe.adapt, start.recipe.training
    keeps = saved.recipe.model.final_norm if task.pool == "cls" else False
    model = replace(saved.recipe.model, final_norm=keeps, trainable_positions=adapt.trainable_positions)
    recipe = replace(saved.recipe, model=model, training=replace(saved.recipe.training, seed=training.seed))
    learner = build(recipe)
    mine = learner.state_dict()
    learner.load_state_dict(
        {name: value for name, value in saved.learner.state_dict().items() if name in mine}, strict=False
    )
    head = ClassifierConfig(start.classes, start.activation, task.pool, "none" if task.pool == "cls" else task.norm)  # type: ignore[arg-type]
    notes = ("Fine-tuned: the encoder serves these classes, and no decoder fits it any more.",)
    origin = Provenance(
        f"{start.source}, fine-tuned with unheard {__version__}", saved.provenance.licence, {}, notes, encoder_only=True
    )
    return SavedModel(learner, recipe, saved.statistics, origin, build_classifier(head, recipe))


class FinetuneTrainer:
    """Trains one model.

    Parameters
    ----------
    folder : Path
        Where it leaves journal, checkpoints and ``model/``, the best weights.
    saved : SavedModel
        As `begin` makes it; its encoder and classifier are trained in place.
    start : Start
    sounds : Sounds
    part : Part
        Rows that train and rows that choose the weights.
    engine : Engine

    Raises
    ------
    DataError
        When none of the training clips, or none of those of a class, could be read; in `run`, when packed clips differ
        from their checksums: all of them were compared when it ends.
    ConfigError
        When a norm over the batch has one clip to look at.
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
                "none of the clips to train on can be read; see which were skipped with: unheard data check FOLDER"
            )
        if unheard := [start.classes[k] for k in np.flatnonzero(sounds.target.counts(self.train) == 0).tolist()]:
            reason = sounds.store.skipped[0].reason if sounds.store.skipped else "none trains"
            raise DataError(
                f"no clip of the classes {', '.join(unheard)} can be trained on; the first that was skipped: {reason}"
            )
        training = start.recipe.training
        if start.recipe.task.norm == "batch" and training.batch_size // (engine.processes * training.accumulate) < 2:
            raise ConfigError(
                "task.norm=batch compares clips, so it needs at least two in each part of a batch; set"
                " training.batch_size"
            )
        assert isinstance(saved.classifier, Classifier)
        self.tuned = FinetuneModule(
            Network(saved.learner.model.encoder, saved.classifier, start.recipe.augment), start.recipe
        )
        self.verification = sounds.verification if engine.rank == 0 else None
        self.validation = Validation(sounds.store, self.valid, saved.statistics, engine, saved.learner.grid.frames)

    @property
    def width(self) -> int:
        """Frames of a training window: the encoder's, or whole patches for the longest clip when all are shorter."""
        grid = self.saved.learner.grid
        return grid.real_columns(int(self.sounds.store.frames[self.train].max())) * grid.patch_size[1]

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        clips = min(self.start.recipe.task.epoch_clips or len(self.train), len(self.train))
        return total_steps(self.start.recipe.training, clips)

    def run(self, report: Callbacks) -> RunState:
        """Train from the latest checkpoint, or from the start, to the end or to Ctrl-C."""
        saved = checkpoints(self.folder)
        progress = read_progress(saved[-1]) if saved else None
        if progress is not None and progress.step >= progress.total:
            return progress
        engine, recipe = self.engine, self.start.recipe
        engine.setup_module(self.tuned, build_optimiser(self.tuned), progress.kernel if progress else None)
        if progress is not None:
            restore(saved[-1], self.tuned, engine.optimiser)
        step = progress.step if progress else 0
        self.folder.mkdir(parents=True, exist_ok=True)
        loader = LabelledLoader(
            self.sounds, self.train, recipe, self.saved.statistics, self.width,
            RankSlice(recipe.training.batch_size, engine.rank, engine.processes), device=engine.device, steps=range(step, self.total),
        )  # fmt: skip
        if engine.rank == 0:
            report.log(self._line(loader.epoch_size))
        journal = (
            MetricsLogger(self.folder, step, self.total, report.show_progress) if engine.rank == 0 else nullcontext()
        )
        bad = BadBatches(self.folder, loader, recipe.training, engine, report.log, replays=False)
        with loader, journal as rows, graceful_shutdown() as stopped:
            return self._loop(loader, bad, rows, stopped)

    def _line(self, epoch_size: int) -> str:
        training, grid = self.start.recipe.training, self.saved.learner.grid
        columns = self.width // grid.patch_size[1]
        return (
            f"training   {len(self.train)} clips, {len(self.valid)} to choose the weights; {self.total} steps of"
            f" {training.batch_size}, {self.total * training.batch_size / epoch_size:.1f} epochs; {grid.freq} x"
            f" {columns} tokens a window; {self.engine.precision} on {self.engine.device.type}"
        )

    def _loop(
        self, loader: LabelledLoader, bad: BadBatches, rows: MetricsLogger | None, stopped: Callable[[], bool]
    ) -> RunState:
        """Every step; returns where it ended."""
        engine, training, total = self.engine, self.start.recipe.training, self.total
        guard, meter = (
            NonFiniteGuard(self.folder, self.sounds.store.names, engine, bad.record),
            ThroughputMeter(loader, training.batch_size),
        )
        best, step = BestModelTracker(self.folder, self.start.recipe.task.patience), loader.steps.start
        place = RunState(step, total, engine.kernel)
        self.tuned.train()
        for batch in loader:
            rate = rate_at(step / total, self.start.recipe)
            engine.seed_step(step)
            value = self._gradients(batch.clips)
            if value is not None:
                engine.step(rate)
            step += 1
            seen, before = (each * training.batch_size // loader.epoch_size for each in (step, step - 1))
            epoch_ends, early = step == total or seen > before, False
            if value is None:
                bad.skip(step)
            else:
                guard.record(step, batch.rows, value)
            if value is not None or epoch_ends:
                self.tuned.after_step(step / total, seen if epoch_ends else None)
            if epoch_ends or (value is not None and step % training.log_every == 0):
                guard.check()
                row = {"step": step, "epoch": step * training.batch_size / loader.epoch_size}
                row |= {} if value is None else {"loss": float(engine.mean(value))}
                row |= {"learning_rate": rate, **meter.lap(step)}
                if epoch_ends:
                    guard.check_weights(self.tuned, step)
                    found, early = self._choose(best, step)
                    row |= found
                if rows is not None:
                    rows.write(row)
            place = RunState(step, step if early else total, engine.kernel)
            ending = step == place.total or engine.any_rank(stopped())
            if ending or step % training.checkpoint_every == 0:
                guard.check_weights(self.tuned, step)
                self._checkpoint(place)
            if ending:
                break
        return place

    def _choose(self, best: BestModelTracker, step: int) -> tuple[dict[str, float], bool]:
        """Score the validation clips, keep the weights when they are the best so far, and return whether patience has
        run out.

        All processes compute logits; the first one scores them, writes, and passes on what it found.
        """
        logits, first = self.logits() if len(self.valid) else None, self.engine.rank == 0
        found: dict[str, float] = {}
        if first and logits is not None:
            found = scores(logits, *self.sounds.marks(self.valid), self.start.activation)
        if first and best.update(found):
            self._keep(step, found)
        told: tuple[dict[str, float], bool] = self.engine.fabric.broadcast((found, best.exhausted))
        return {f"valid/{name}": score for name, score in told[0].items()}, told[1]

    def _gradients(self, clips: AugmentBatch) -> torch.Tensor | None:
        """Return the loss of a batch; its gradients are left on the parameters.

        None when bad batches may be skipped and the loss is not finite in some process: then nothing has changed.
        """
        parts, skipping = self.start.recipe.training.accumulate, self.start.recipe.training.skip_bad_batches > 0
        kept = self.engine.saved_buffers() if skipping else []
        total = torch.zeros((), device=self.engine.device)
        pieces = list(_pieces(clips, parts))
        for number, piece in enumerate(pieces):
            share = len(piece.values) / len(clips.values)
            with self.engine.fabric.no_backward_sync(self.engine.module, enabled=number < len(pieces) - 1):
                value: torch.Tensor = self.engine.module(piece) * share
                self.engine.fabric.backward(value)
            total += value.detach()
        if skipping and self.engine.any_rank(not bool(torch.isfinite(total))):
            self.engine.undo(kept)
            return None
        return total

    def logits(self) -> Float32[np.ndarray, "n C"]:
        """Return the logits of the validation clips under the weights that would be kept now; all processes must call
        this.
        """
        chosen = self.tuned.eval_network
        self.engine.align_buffers(chosen)
        chosen.eval()
        try:
            return self.validation.logits(chosen)
        finally:
            self.tuned.train()

    def _as_saved(self) -> SavedModel:
        """The chosen weights as a model; they are shared, not copied."""
        chosen, learner = self.tuned.eval_network, self.saved.learner
        learner.model.encoder = chosen.encoder
        learner.eval()
        return replace(self.saved, classifier=chosen.classifier)

    def _keep(self, step: int, found: dict[str, float]) -> None:
        """Write the model folder; nothing is kept of clips that differ from their checksums, as far as they were read."""
        self._verify()
        saved, training = self._as_saved(), self.start.recipe.training
        told = {name: round(value, 4) for name, value in found.items()}
        trained: dict[str, Any] = {"fine-tuning recipe": self.start.recipe.name, "steps": f"{step} of {self.total}"}
        trained |= {"clips": len(self.train), "seed": training.seed, **({"validation": told} if told else {})}
        provenance = replace(saved.provenance, trained=trained)
        save_model(self.folder / "model", saved.learner, saved.recipe, saved.statistics, provenance, saved.classifier)
        self.tuned.train()

    def _verify(self, wait: bool = False) -> None:
        if self.verification is not None:
            self.verification.check(wait)

    def _checkpoint(self, progress: RunState) -> None:
        self._verify(wait=progress.step >= progress.total)
        if self.engine.rank == 0:
            save_checkpoint(
                self.folder, self.tuned, self.engine.optimiser, progress, self.start.recipe.training.keep_checkpoints
            )
        self.engine.wait()


def _pieces(clips: AugmentBatch, parts: int) -> Iterator[AugmentBatch]:
    chunks: list[Any] = [values.chunk(parts) for values in (clips.values, clips.lengths, clips.target, clips.known)]
    yield from (AugmentBatch(*piece) for piece in zip(*chunks, strict=True))
