"""What rows a1 to a7 share: the step of our training loop, its FLOP, the candidates of a case, and their comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import interleave, show
from unheard.audio.frontend import Statistics
from unheard.devices import bf16_on_cpu
from unheard.model.masking import noise_size
from unheard.model.sizes import ModelConfig
from unheard.model.transformer import use_attention
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.training.engine import Engine
from unheard.training.loop import take_step
from unheard.training.session import Session

NOW = TrainingProgress(100, 1000)  # of the first step
RATE = 1e-6  # so that the weights hardly move


@dataclass
class Step:
    """A training step that can be repeated, with the losses of its latest run."""

    run: Callable[[], tuple[float, ...]]
    items: int
    losses: tuple[float, ...] = field(default=())

    def __call__(self) -> int:
        """Run it; return the number of items."""
        self.losses = self.run()
        return self.items


def made_batch(recipe: Recipe, frames: int, size: int) -> Batch:
    """Noise as spectrograms, without padding."""
    generator, grid = torch.Generator().manual_seed(0), build(recipe, 0).grid
    spec = torch.randn(size, recipe.frontend.n_mels, frames, generator=generator)
    noise = torch.rand(size, noise_size(recipe.model, recipe.mask, grid), generator=generator)
    valid = torch.ones(size, grid.num_patches, dtype=torch.bool)
    return Batch(spec, valid, torch.arange(size), torch.full((size,), frames), torch.zeros(size), noise)


def msm_mae_case(size: str, frames: int, count: int) -> tuple[Recipe, Batch]:
    """The recipe of MSM-MAE in a size, and a batch of windows."""
    recipe = replace(find_recipe("msm-mae"), model=ModelConfig(size=size, frames=frames))
    return recipe, made_batch(recipe, frames, count)


def our_step(learner: PretrainModule, batch: Batch, bf16: bool, compiled: bool) -> Step:
    """The step that the loop of ``pretrain`` calls, without its loader (row c1)."""
    training = replace(
        learner.recipe.training,
        learning_rate=RATE, precision="bf16" if bf16 else "float32", compile=compiled,
    )  # fmt: skip
    recipe = replace(learner.recipe, training=training)
    session = Session(recipe, data="", fingerprint="", statistics=Statistics((0.0,), (1.0,)), total=NOW.total)
    engine, numbers = Engine(training, "cpu"), count(NOW.step)
    engine.setup(learner)

    def run() -> tuple[float, ...]:
        losses = take_step(session, engine, batch, next(numbers))
        assert losses is not None
        return tuple(losses[f"loss/{name}"].item() for name in learner.objectives)

    return Step(run, len(batch.spec) * learner.recipe.mask.views)


def flop_of(recipe: Recipe, batch: Batch) -> int:
    """Return the FLOP of the matrix products and of attention of a step."""
    learner = build(recipe, 0)
    use_attention(learner, "explicit")  # the counter does not count the fused kernel of the CPU
    learner.begin_step(NOW)
    with FlopCounterMode(display=False) as counter:
        learner.losses(batch, learner.training_mask(batch))["loss"].backward()
    return counter.get_total_flops()


def candidates(baseline: Mapping[str, Step], recipe: Recipe, batch: Batch) -> dict[str, Step]:
    """The baseline and our step in every form that this processor runs, with the same weights."""
    kinds = {"ours, float32": (False, False), "ours, float32, compiled": (False, True)}
    if bf16_on_cpu():
        kinds |= {"ours, bf16": (True, False), "ours, bf16, compiled": (True, True)}
    return {**baseline, **{name: our_step(build(recipe, 0), batch, *kind) for name, kind in kinds.items()}}


def compare_and_time(
    title: str, steps: Mapping[str, Step], unit: str, given: argparse.Namespace, note: str = ""
) -> None:
    """Compare the losses of the first step, then time the steps and print the row."""
    for step in steps.values():
        step()
    first = next(iter(steps.values())).losses
    for name, step in steps.items():
        tolerance = 2e-2 if "bf16" in name else 1e-3
        if any(abs(mine - theirs) > tolerance * theirs for mine, theirs in zip(step.losses, first, strict=True)):
            sys.exit(
                f"{title}: the losses of {name} are {step.losses}, of the baseline {first}; they do not compute the"
                " same thing"
            )
    values = (f"{name} {' '.join(f'{loss:.5f}' for loss in step.losses)}" for name, step in steps.items())
    checked = f"losses of the first step: {', '.join(values)}{note}"
    show(title, interleave(steps, given.rounds), unit, checked, given.json)
    print()
