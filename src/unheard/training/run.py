"""What a run is: its folder, what is fixed when it starts, what it saves and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unheard.audio.frontend import Statistics
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.config import from_json, to_json
from unheard.data.crops import CropSampler
from unheard.data.store import Store
from unheard.data.verification import Verification
from unheard.errors import CheckpointError, ConfigError, shown
from unheard.files import read_json, write_json
from unheard.model.masking import masked_fraction
from unheard.objectives.base import Batch
from unheard.progress import Track, silent
from unheard.recipes.file import RecipeFile
from unheard.recipes.learner import PretrainModule
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig
from unheard.training.checkpoints import RunState, checkpoints, read_progress, save_checkpoint
from unheard.training.engine import Engine
from unheard.training.journal import duration
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, save_model

STEP_BUDGET = 10_000  # our choice: 1.3 million crops at the default batch, hours on two cores, minutes on a GPU
FINISHED = "finished.json"
"""File of a run folder that is written last: the run needs nothing more."""
MOST_NAMED = 20  # skipped files that are named when a run starts; our choice
EPOCH_BUDGET = 400  # our choice: a small corpus is not repeated more often than this


@dataclass(frozen=True)
class Run:
    """A run folder and where it stands."""

    folder: Path
    step: int
    total: int

    @property
    def finished(self) -> bool:
        """Whether every step was done."""
        return self.step >= self.total


@dataclass(frozen=True)
class Callbacks:
    """What a run tells the outside while it goes; the default tells nothing."""

    say: Callable[[str], None] = lambda text: None
    """Takes lines of text for a person."""
    track: Track = silent
    """Shows the progress of reading the corpus."""
    live: bool = False
    """Draw a progress line on stderr."""
    finished: Callable[[Path, Store], None] = lambda run, store: None
    """Called once at the end with the run and its corpus; for figures and measurements."""


@dataclass(frozen=True)
class Session:
    """Everything fixed when a run starts; stored as ``config.json`` of the run folder."""

    recipe: Recipe
    data: str
    fingerprint: str
    statistics: Statistics
    total: int
    init: str | None = None
    teacher: str = ""
    """Fingerprint of the frozen teacher, where there is one."""
    code: RecipeFile | None = None
    """File that registers objectives of the recipe, where there are such: a resumed run runs it again."""


def sampler_of(store: Store, recipe: Recipe) -> CropSampler:
    """The windows a recipe draws from a corpus."""
    domains = store.domains if recipe.data.balance == "domain" else None
    data, window = recipe.data, recipe.model.frames
    return CropSampler(store.frames, window, recipe.training.seed, data.crops, domains, data.short_clips, align=recipe.model.patch_size[1])


def statistics_of(store: Store, recipe: Recipe) -> Statistics:
    """What a recipe normalises the spectrograms of a corpus by.

    Raises
    ------
    ConfigError
        When published statistics are asked for and have other bands than the front end.
    """
    data = recipe.data
    if data.statistics == "maskspec":
        if recipe.frontend.n_mels != len(MASKSPEC_AUDIOSET.mean):
            raise ConfigError(
                f"data.statistics=maskspec has {len(MASKSPEC_AUDIOSET.mean)} bands, the front end {recipe.frontend.n_mels}; use band"
            )
        return MASKSPEC_AUDIOSET
    return (store.statistics if data.statistics == "scalar" else store.band_statistics).with_min_std(data.min_std)


def total_steps(training: TrainingConfig, windows: int) -> int:
    """Steps of a run over a corpus with ``windows`` windows in an epoch."""
    per_epoch = windows / training.batch_size
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, math.ceil(training.epochs * per_epoch))
    return min(STEP_BUDGET, max(200, math.ceil(EPOCH_BUDGET * per_epoch)))


class CheckpointWriter:
    """Saves checkpoints and the latest model of a run, from the first process only."""

    def __init__(self, run: Path, session: Session, store: Store, engine: Engine) -> None:
        self.run, self.session, self.store, self.engine = run, session, store, engine
        self.verification = Verification(store) if engine.rank == 0 else None

    def save(self, step: int) -> None:
        """Write ``checkpoints/step-...`` and ``model/``.

        Raises
        ------
        DataError
            When the packed corpus differs from its checksums, as far as it was read; after the last step all of it was.
        """
        if self.verification is not None:
            self.verification.check(wait=step >= self.session.total)
            place = RunState(step, self.session.total, self.engine.kernel)
            keep = self.session.recipe.training.keep_checkpoints
            save_checkpoint(self.run, self.engine.learner, self.engine.optimiser, place, keep)
            self.save_model(step)
        self.engine.wait()

    def save_model(self, step: int) -> None:
        """Write ``model/``."""
        recipe, statistics = self.session.recipe, self.session.statistics
        save_model(self.run / "model", self.engine.learner, recipe, statistics, self.provenance(step))

    def provenance(self, step: int) -> Provenance:
        """What the model card says of this run."""
        trained = {
            "steps": f"{step} of {self.session.total}",
            "crops": step * self.session.recipe.training.batch_size,
            "corpus": f"{len(self.store.frames)} clips, {self.store.seconds_total / 3600:.2f} hours",
            "seed": self.session.recipe.training.seed,
        }
        return Provenance(source=f"pre-trained with unheard {__version__}", trained=trained)


def summary_lines(
    session: Session, store: Store, sampler: CropSampler, learner: PretrainModule, engine: Engine, batch: Batch, step: int
) -> list[str]:
    """Lines that say what is about to happen, with an estimate of the time it takes."""
    recipe, grid = session.recipe, learner.grid
    lines: list[str] = []
    training, window = recipe.training, recipe.model.frames * recipe.frontend.hop_size / recipe.frontend.sample_rate
    encoder = sum(p.numel() for p in learner.model.encoder.parameters())
    trained = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    lines.append(
        f"corpus     {len(store.frames)} clips, {store.seconds_total / 3600:.2f} hours, {len(store.skipped)} skipped; "
        f"{sampler.size} windows an epoch"
    )
    lines += [f"skipped    {shown(skipped.path)}: {skipped.reason}" for skipped in store.skipped[:MOST_NAMED]]
    if len(store.skipped) > MOST_NAMED:
        lines.append(f"skipped    {len(store.skipped) - MOST_NAMED} more; unheard data check names them all")
    mean, std = session.statistics.mean, session.statistics.std
    lines.append(
        f"statistics mean {np.mean(mean):.4f}, deviation {np.mean(std):.4f}{'' if len(mean) == 1 else ' (averages over the bands)'}"
    )
    lines.append(
        f"window     {recipe.model.frames} frames ({window:.2f} s), {grid.num_patches} tokens a window ({grid.freq} x {grid.time}), "
        f"{masked_fraction(recipe.model, grid):.0%} hidden"
    )
    lines.append(
        f"model      {recipe.name}, size {recipe.model.size}: encoder {encoder / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained"
    )
    seconds = engine.benchmark_step(batch) * (session.total - step)
    lines.append(
        f"training   {session.total} steps of {training.batch_size} windows, "
        f"{session.total * training.batch_size / sampler.size:.1f} epochs; "
        f"{engine.precision} on {engine.device.type}{f' x {engine.processes}' if engine.processes > 1 else ''}; about {duration(seconds)}"
    )
    median = float(np.median(store.frames))
    if median < recipe.model.frames / 2:
        fit = max(1, round(median / recipe.model.patch_size[1])) * recipe.model.patch_size[1]
        lines.append(
            f"note       half of the clips are shorter than {median:.0f} frames; "
            f"a window of {fit} (--set model.frames={fit}) would waste less on padding"
        )
    return lines


def read_config(run: Path) -> dict[str, Any]:
    """What ``config.json`` of a run folder holds.

    Raises
    ------
    CheckpointError
        When there is no run there, or its configuration is damaged.
    """
    file = run / "config.json"
    if not file.is_file():
        raise CheckpointError(f"there is no run at {run}; give the folder that unheard pretrain or finetune wrote with -o")
    stored = read_json(file, CheckpointError, "restore it from a copy, or start a new run")
    if "recipe" not in stored or "total" not in stored:
        raise CheckpointError(
            f"{run} is not a run: its config.json tells of no recipe and steps; give the folder that unheard pretrain wrote"
        )
    return stored


def read_session(run: Path, no_code: bool = False, say: Callable[[str], None] = lambda text: None) -> Session:
    """Return what a pre-training run began with. The recipe file that registers its objectives, where there is one, is run.

    Parameters
    ----------
    no_code : bool
        Refuse a run that needs a recipe file.
    say : callable
        Takes a line of text when a file is run.

    Raises
    ------
    CheckpointError
        When there is none at ``run``.
    ConfigError
        When the recipe file must not or cannot be run.
    """
    stored = {name: value for name, value in read_config(run).items() if name != "unheard"}
    try:
        code = None if stored.get("code") is None else from_json(RecipeFile, stored["code"])
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a pre-training run of this version of unheard: code.{error}") from error
    if code is not None:
        if no_code:
            raise ConfigError(f"{run} needs the program {shown(code.path)}, and --no-code refuses to run it")
        code.run_again(run, say)
    _refuse_unregistered(run, stored["recipe"])
    try:
        return from_json(Session, stored)
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a pre-training run of this version of unheard: {error}") from error


def _refuse_unregistered(run: Path, recipe: Any) -> None:
    asked = recipe.get("objectives") if isinstance(recipe, dict) else None
    if isinstance(asked, dict) and (unknown := [shown(name) for name in asked if name not in ObjectivesConfig.types()]):
        raise ConfigError(
            f"{run} was trained with objectives that are not registered: {', '.join(unknown)}; run the code that registers them first "
            "(unheard.objectives.registry.register), in the same program"
        )


def write_session(run: Path, session: Session) -> None:
    """Write ``config.json`` of a run."""
    write_json(run / "config.json", {"unheard": __version__, **to_json(session)})


def mark_complete(run: Path, session: Session) -> None:
    """Write that model and figures of the last step are there."""
    write_json(run / FINISHED, {"step": session.total})


def is_complete(run: Path, session: Session) -> bool:
    """Whether every step is done, and model and figures of the last step are there."""
    saved, mark = checkpoints(run), run / FINISHED
    done = bool(saved) and read_progress(saved[-1]).step >= session.total and mark.is_file()
    return done and read_json(mark, CheckpointError, "delete it, and resume the run to write it again") == {"step": session.total}
