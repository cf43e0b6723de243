"""Activation checkpointing changes the memory of a step, and no number of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.training.global_batch import FOUND, RECIPES, SIZES, WINDOWS, batch_of
from torch import Tensor

from unheard.config import override
from unheard.model.transformer import use_drop_path
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.training.engine import Engine


def engine_of(kind: str, checkpointing: bool, depth: int = 2) -> Engine:
    name, extra = RECIPES[kind]
    changed = [*(f"model.{size}" for size in SIZES), f"model.depth={depth}", *FOUND, *extra]
    recipe = override(find_recipe(name), [*changed, f"training.activation_checkpointing={str(checkpointing).lower()}"])
    learner = build(recipe)
    use_drop_path(learner.model.encoder.transformer, 0.5)
    engine = Engine(recipe.training, "cpu")
    engine.setup(learner)
    learner.begin_step(TrainingProgress(0, 10))
    return engine


def found(engine: Engine) -> dict[str, Tensor]:
    """Losses, gradients and statistics of one step."""
    learner: PretrainModule = engine.learner
    losses = engine.losses_and_gradients(batch_of(learner, WINDOWS))
    gradients = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    return losses | gradients | {name: buffer.clone() for name, buffer in learner.named_buffers()}


QUICK = ("local decoder", "prototypes", "mixtures", "distill two")
KINDS = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in RECIPES]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_gradients_and_statistics_are_equal_with_dropped_paths(kind: str) -> None:
    stored, again = (found(engine_of(kind, checkpointing)) for checkpointing in (False, True))
    assert stored.keys() == again.keys() and any(name.startswith("model.encoder") for name in stored)
    for name, value in stored.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def stored_bytes(step: Callable[[], object]) -> int:
    """Memory that the forward pass keeps for the backward pass."""
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("kind", ["local decoder", "views, encoder as teacher"])
def test_less_is_stored_for_the_backward_pass(kind: str) -> None:
    sizes = []
    for checkpointing in (False, True):
        learner = engine_of(kind, checkpointing, depth=8).learner
        batch = batch_of(learner, WINDOWS)
        mask = learner.training_mask(batch)
        sizes.append(stored_bytes(lambda learner=learner, batch=batch, mask=mask: learner.losses(batch, mask)))
    assert sizes[1] < sizes[0] / 2
