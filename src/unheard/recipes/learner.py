"""A recipe made flesh: the masked model with its objectives, as one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedModel, alone
from unheard.model.masking import Mask
from unheard.model.patches import Grid
from unheard.objectives.base import Batch, Objective
from unheard.objectives.latents import PredictLatents
from unheard.objectives.reconstruct import Reconstruct
from unheard.recipes.recipe import Recipe


class Learner(nn.Module):
    """Everything a recipe trains: ``model`` (the masked pass) and ``objectives`` (what is asked of it)."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        asked = recipe.objectives
        self.recipe = recipe
        self.grid = grid_of(recipe)
        latents = asked.latents.weight > 0
        self.model = MaskedModel(recipe.model, self.grid, latents, recipe.teacher.copied)
        built: dict[str, tuple[float, Objective]] = {}
        if asked.reconstruct.weight > 0:
            head = Reconstruct(asked.reconstruct, self.model.decoder.embed_dim, self.grid.patch_dim)
            built["reconstruct"] = (asked.reconstruct.weight, head)
        if latents:
            built["latents"] = (asked.latents.weight, PredictLatents(asked.latents))
        if not built:
            raise ConfigError(
                "every objective has weight 0, so there is nothing to learn; set one, for example objectives.reconstruct.weight=1"
            )
        self.weights = {name: weight for name, (weight, _) in built.items()}
        self.objectives = nn.ModuleDict({name: objective for name, (_, objective) in built.items()})
        self.mean_over_processes: Callable[[Tensor], Tensor] = alone

    def forward(self, batch: Batch, mask: Mask) -> dict[str, Float[Tensor, ""]]:
        """One masked pass; the losses by name, and their weighted sum as "loss"."""
        out = self.model(self.grid.patchify(batch.spec), mask)
        out.mean_over_processes = self.mean_over_processes
        losses = {name: objective(out, batch) for name, objective in self.objectives.items()}
        total = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        return {"loss": total, **{f"loss/{name}": value for name, value in losses.items()}}

    def parts(self) -> Iterator[Objective]:
        """The objectives, in the order they were built."""
        return (cast(Objective, objective) for objective in self.objectives.values())

    def before_step(self, progress: float) -> None:
        """Run what moves before an optimiser step; ``progress`` is the share of the run that is done."""
        self._move_teacher("before_step", progress)
        for objective in self.parts():
            objective.before_step(progress)

    def after_step(self, progress: float) -> None:
        """Run what moves after an optimiser step."""
        self._move_teacher("after_step", progress)
        for objective in self.parts():
            objective.after_step(progress)

    def _move_teacher(self, when: str, progress: float) -> None:
        teacher, config = self.model.teacher, self.recipe.teacher
        if teacher is None or config.moves != when or (when == "before_step" and progress == 0):
            return  # MATPAC skips the first step
        momentum = config.momentum_start + (config.momentum_end - config.momentum_start) * progress
        teacher.follow(self.model.encoder, momentum)

    def lasting_state(self) -> dict[str, Tensor]:
        """The weights a model folder keeps: everything but the teacher."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.teacher.")}


def grid_of(recipe: Recipe) -> Grid:
    """The patch grid of a recipe's window."""
    model = recipe.model
    return Grid.of(recipe.frontend.n_mels, model.frames, model.patch_size, model.token_order)


def build(recipe: Recipe, seed: int | None = None) -> Learner:
    """Build a recipe with initial weights drawn from ``seed`` (the recipe's own when left out)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed if seed is None else seed)
        return Learner(recipe)
