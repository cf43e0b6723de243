"""What rows a1 to a5 share: the step of our training loop, the candidates of a case, and their comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from benchmarks.timing import interleave, show
from unheard.devices import bf16_on_cpu
from unheard.model.masking import noise_size
from unheard.model.transformer import AttentionKernel, use_attention
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.training.optim import build_optimiser

NOW, NEXT = TrainingProgress(100, 1000), TrainingProgress(101, 1000)
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


def made_batch(recipe: Recipe, frames: int, count: int) -> Batch:
    """Noise as spectrograms, without padding."""
    generator, grid = torch.Generator().manual_seed(0), build(recipe, 0).grid
    spec = torch.randn(count, recipe.frontend.n_mels, frames, generator=generator)
    noise = torch.rand(count, noise_size(recipe.model, recipe.mask, grid), generator=generator)
    valid = torch.ones(count, grid.num_patches, dtype=torch.bool)
    return Batch(spec, valid, torch.arange(count), torch.full((count,), frames), torch.zeros(count), noise)


def our_step(learner: PretrainModule, batch: Batch, bf16: bool, compiled: bool, clip: float | None = None) -> Step:
    """The step of our training loop."""
    kernel: AttentionKernel = "explicit" if bf16 else "fused"
    use_attention(learner, kernel)
    if compiled:
        learner.compile(dynamic=False)
    optimiser = build_optimiser(learner, learner.recipe.training)
    for group in optimiser.param_groups:
        group["lr"] = RATE

    def run() -> tuple[float, ...]:
        learner.begin_step(NOW)
        mask = learner.training_mask(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = learner.losses(batch, mask)
        optimiser.zero_grad()
        losses["loss"].backward()
        learner.before_step(NOW)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.grad is not None], clip)
        optimiser.step()
        learner.after_step(NEXT)
        return tuple(losses[f"loss/{name}"].item() for name in learner.objectives)

    return Step(run, len(batch.spec) * learner.recipe.mask.views)


def candidates(
    baseline: Mapping[str, Step], recipe: Recipe, batch: Batch, clip: float | None = None
) -> dict[str, Step]:
    """The baseline and our step in every form that this processor runs, with the same weights."""
    kinds = {"ours, float32": (False, False), "ours, float32, compiled": (False, True)}
    if bf16_on_cpu():
        kinds |= {"ours, bf16": (True, False), "ours, bf16, compiled": (True, True)}
    return {**baseline, **{name: our_step(build(recipe, 0), batch, *kind, clip) for name, kind in kinds.items()}}


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
