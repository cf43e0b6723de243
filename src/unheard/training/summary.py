"""Summary lines printed before training: corpus, window, model and estimated time."""

from __future__ import annotations

import numpy as np

from unheard.data.store import Store
from unheard.data.windows.crops import CropSampler
from unheard.data.windows.device_store import DeviceStore
from unheard.errors import shown
from unheard.model.masking import masked_fraction
from unheard.objectives.base import Batch
from unheard.progress import duration
from unheard.recipes.learner import PretrainModule
from unheard.training.engine import Engine
from unheard.training.session import Session

MOST_NAMED = 20  # maximum number of skipped files listed when a run starts; our choice


def summary_lines(
    session: Session,
    store: Store,
    sampler: CropSampler,
    learner: PretrainModule,
    engine: Engine,
    batch: Batch,
    step: int,
) -> list[str]:
    """Return the summary of a run, with an estimate of its time."""
    recipe, grid = session.recipe, learner.grid
    lines: list[str] = []
    training, window = recipe.training, recipe.model.frames * recipe.frontend.hop_size / recipe.frontend.sample_rate
    encoder = sum(p.numel() for p in learner.model.encoder.parameters())
    trained = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    lines.append(
        f"corpus     {len(store.frames)} clips, {store.seconds_total / 3600:.2f} hours, {len(store.skipped)} skipped; "
        f"{sampler.size} windows per epoch"
        f"{f'; {store.nbytes / 1e9:.2f} GB on the GPU' if isinstance(store, DeviceStore) else ''}"
    )
    lines += [f"note       {text}" for text in store.header.notes]
    lines += [f"skipped    {shown(skipped.path)}: {skipped.reason}" for skipped in store.skipped[:MOST_NAMED]]
    if len(store.skipped) > MOST_NAMED:
        lines.append(f"skipped    {len(store.skipped) - MOST_NAMED} more; unheard data check lists all of them")
    mean, std = session.statistics.mean, session.statistics.std
    lines.append(
        f"statistics mean {np.mean(mean):.4f}, deviation"
        f" {np.mean(std):.4f}{'' if len(mean) == 1 else ' (averages over the bands)'}"
    )
    lines.append(
        f"window     {recipe.model.frames} frames ({window:.2f} s), {grid.num_patches} tokens per window ({grid.freq} x"
        f" {grid.time}), {masked_fraction(recipe.model, grid):.0%} masked"
        f"{f' in {recipe.mask.views} views' if recipe.mask.views > 1 else ''}"
    )
    lines.append(
        f"model      {recipe.name}, size {recipe.model.size}: encoder {encoder / 1e6:.1f} M parameters,"
        f" {trained / 1e6:.1f} M trained"
    )
    seconds = engine.benchmark_step(batch) * (session.total - step)
    lines.append(
        f"training   {session.total} steps of {training.batch_size} windows,"
        f" {session.total * training.batch_size / sampler.size:.1f} epochs; {engine.precision} on"
        f" {engine.device.type}{f' x {engine.processes}' if engine.processes > 1 else ''}"
        f"{', sharded' if engine.sharded else ''}; about {duration(seconds)}"
    )
    median = float(np.median(store.frames))
    if median < recipe.model.frames / 2:
        fit = max(1, round(median / recipe.model.patch_size[1])) * recipe.model.patch_size[1]
        lines.append(
            f"note       half of the clips are shorter than {median:.0f} frames; "
            f"a window of {fit} (--set model.frames={fit}) would need less padding"
        )
    return lines
