"""The session of a pre-training run: settings that are fixed at its start, stored in ``config.json``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unheard.addresses import address_of, located
from unheard.audio.decibels import DbMinMaxConfig
from unheard.audio.frontend import Statistics
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.config import from_json, to_json
from unheard.data.corpus import Sources, listed
from unheard.data.store import Store
from unheard.data.windows.crops import SAMPLING, CropSampler
from unheard.errors import CheckpointError, ConfigError, shown
from unheard.files import read_json, write_json
from unheard.recipes.file import RecipeFile
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig
from unheard.remote.cache import LIMIT, cache_limit
from unheard.remote.shards import RemoteShards
from unheard.training.watch.plan import WatchPlan
from unheard.version import __version__
from unheard.weights.built_in import open_model

CONFIG = "config.json"
"""File of a run folder with its session."""
STEP_BUDGET = 10_000  # our choice: 1.3 million crops at the default batch, hours on two cores, minutes on a GPU
EPOCH_BUDGET = 400  # our choice: maximum number of epochs of a small corpus


@dataclass(frozen=True)
class Session:
    """Settings that are fixed when a run starts; stored as ``config.json`` of the run folder."""

    recipe: Recipe
    data: str | tuple[str, ...]
    """Address or absolute path of the corpus; of several sources all, in their order."""
    fingerprint: str
    statistics: Statistics
    total: int
    init: str | None = None
    teacher: str = ""
    """Hashes of the frozen teachers or of their stored targets."""
    text: str = ""
    """Hash of the text encoder; empty if there is none, and in runs of earlier versions."""
    minutes: float | None = None
    """Duration of the training, if it determines the steps; ``total`` is 0 until the time of a step is measured."""
    code: RecipeFile | None = None
    """File that registers objectives of the recipe, if there is one; it is executed again on resume."""
    watch: WatchPlan | None = None
    """Labelled table that is scored while the run trains."""

    def watched(self, step: int) -> bool:
        """Return whether the labelled table is scored after a step."""
        return self.watch is not None and self.watch.due(step, self.total)

    def logged(self, step: int) -> bool:
        """Return whether a step has a row of metrics."""
        return step % self.recipe.training.log_every == 0 or step == self.total or self.watched(step)


def absolute_sources(sources: Sources) -> str | tuple[str, ...]:
    """Return the address or absolute path of a source, or of each of several, as a session stores them.

    Links are kept: names and order of clips, and the suffix of an archive, are those of the link.
    """
    found = tuple(address_of(each) or str(each.absolute()) for each in listed(sources))
    return found[0] if len(found) == 1 else found


def same_sources(first: Sources, second: Sources) -> bool:
    """Return whether sources are the same files and folders, in the same order."""
    return [located(each) for each in listed(first)] == [located(each) for each in listed(second)]


def sampler_of(store: Store, recipe: Recipe) -> CropSampler:
    """Return the sampler of training windows of a recipe."""
    names, domains = store.categories("domain") if recipe.data.balance == "domain" else ((), None)
    if domains is not None and not any(names):
        raise ConfigError("data.balance=domain needs a table with the column domain; add it, or set data.balance=none")
    data, window = recipe.data, recipe.model.frames
    sampler = CropSampler(
        store.frames,
        window,
        recipe.training.seed,
        data.crops,
        domains,
        data.short_clips,
        align=recipe.model.patch_size[1],
    )
    if data.shuffle == "blocks":
        sampler.shuffle_blocks(np.searchsorted(store.index.shard, np.arange(len(store.shards) + 1)), data.block_shards)
    else:
        _refuse_too_large(store)
    return sampler


def _refuse_too_large(store: Store) -> None:
    """Refuse to read random windows of a corpus at an address that the cache cannot hold."""
    if isinstance(store.shards, RemoteShards) and store.shards.nbytes > cache_limit():
        size, limit = store.shards.nbytes / 1e9, cache_limit() / 1e9
        raise ConfigError(
            f"the packed corpus {shown(store.folder)} has {size:.3g} GB, the cache {limit:.3g} GB, and windows in"
            " random order would download shards again and again; set data.shuffle=blocks, or"
            f" {LIMIT} to a larger number"
        )


def statistics_of(store: Store, recipe: Recipe, init: str | Path | None = None) -> Statistics:
    """Return the statistics that normalise the spectrograms of a corpus.

    Parameters
    ----------
    init : path, optional
        The model whose statistics ``data.statistics=model`` selects.

    Raises
    ------
    ConfigError
        When those of a model are selected and none is given, published ones whose number of bands differs from the
        front end, or any for a front end that has none.
    """
    data = recipe.data
    if isinstance(recipe.frontend, DbMinMaxConfig):
        if data.statistics != "scalar" or data.min_std:
            raise ConfigError(
                "the front end db-minmax scales each window by its own extremes, so data.statistics and data.min_std"
                " have no effect; leave them out"
            )
        return recipe.frontend.statistics()
    if data.statistics == "model":
        if init is None:
            raise ConfigError("data.statistics=model needs the model of --init; give --init MODEL, or set scalar")
        return open_model(init).statistics
    if data.statistics == "maskspec":
        if recipe.frontend.n_mels != len(MASKSPEC_AUDIOSET.mean):
            raise ConfigError(
                f"data.statistics=maskspec has {len(MASKSPEC_AUDIOSET.mean)} bands, but the front end has"
                f" {recipe.frontend.n_mels}; set data.statistics=band"
            )
        return MASKSPEC_AUDIOSET
    return (store.statistics if data.statistics == "scalar" else store.band_statistics).with_min_std(data.min_std)


def total_steps(training: TrainingConfig, windows: int) -> int:
    """Return the number of steps of a run, for a corpus with ``windows`` windows per epoch."""
    per_epoch = windows / training.batch_size
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, math.ceil(training.epochs * per_epoch))
    return min(STEP_BUDGET, max(200, math.ceil(EPOCH_BUDGET * per_epoch)))


def read_config(run: Path) -> dict[str, Any]:
    """Return the content of ``config.json`` of a run folder.

    Raises
    ------
    CheckpointError
        When ``run`` is not a run, or its configuration is damaged.
    """
    file = run / CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"there is no run at {run}; give the folder that unheard pretrain or finetune wrote with -o"
        )
    stored = read_json(file, CheckpointError, "restore it from a copy, or start a new run")
    if "recipe" not in stored or "total" not in stored:
        raise CheckpointError(
            f"{run} is not a run: its config.json has no recipe or no steps; give the folder that unheard pretrain or"
            " finetune wrote with -o"
        )
    return stored


def read_session(run: Path, no_code: bool = False, log: Callable[[str], None] = lambda text: None) -> Session:
    """Read the session of a pre-training run. If a recipe file registers its objectives, that file is executed.

    Parameters
    ----------
    no_code : bool
        Refuse a run that needs to execute a recipe file.
    log : callable
        Receives a line of text when a file is executed.

    Raises
    ------
    CheckpointError
        When ``run`` is not a pre-training run.
    ConfigError
        When the recipe file must not or cannot be executed.
    """
    stored = {name: value for name, value in read_config(run).items() if name != "unheard"}
    if stored.pop("sampling", None) != SAMPLING:
        raise CheckpointError(
            f"{run} is not a pre-training run of this version of unheard: it samples its windows in another order;"
            f" start a new run, with --init {run} from its weights"
        )
    try:
        code = None if stored.get("code") is None else from_json(RecipeFile, stored["code"])
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a pre-training run of this version of unheard: code.{error}") from error
    if code is not None:
        if no_code:
            raise ConfigError(f"{run} needs to execute {shown(code.path)}, which --no-code forbids; omit --no-code")
        code.run_again(run, log)
    _refuse_unregistered(run, stored["recipe"])
    try:
        return from_json(Session, stored)
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a pre-training run of this version of unheard: {error}") from error


def _refuse_unregistered(run: Path, recipe: Any) -> None:
    requested = recipe.get("objectives") if isinstance(recipe, dict) else None
    if isinstance(requested, dict) and (
        unknown := [shown(name) for name in requested if name not in ObjectivesConfig.types()]
    ):
        raise ConfigError(
            f"{run} was trained with objectives that are not registered: {', '.join(unknown)}; register them first in"
            " the same program, with unheard.objectives.registry.register"
        )


def write_session(run: Path, session: Session) -> None:
    """Write ``config.json`` of a run."""
    write_json(run / CONFIG, {"unheard": __version__, "sampling": SAMPLING, **to_json(session)})
