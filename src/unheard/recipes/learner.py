"""The module that a recipe trains: the masked model with its objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.config import from_json, to_json
from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.masked_model import MaskedModel
from unheard.model.masking import Mask
from unheard.model.mixtures import MIN_COLUMNS
from unheard.model.patches import Grid
from unheard.objectives.base import Batch, Objective, Totals
from unheard.objectives.mixing import with_mixtures
from unheard.objectives.registry import REGISTERED
from unheard.objectives.teacher_schedules import TrainingProgress, momentum
from unheard.recipes.recipe import Recipe

MIXABLE = ("reconstruct", "latents", "utterance", "retention")
"""Objectives that mixtures can be combined with; the others read labels, captions or features of one window."""


Value = TypeVar("Value", Tensor, float)


class PassResult(NamedTuple):
    """Result of the pass of a part of a batch, before anything is exchanged with other processes.

    Parameters
    ----------
    losses : dict of Tensor
        Of each objective whose loss needs no windows of other processes.
    terms, diagnostics : dict of Tensor
        Those of the `MaskedPass`, of all objectives.
    sums : dict of dict of Tensor
        `MaskedPass.sums` of each objective.
    rows : dict of dict of Tensor
        `Objective.rows` of the other objectives.
    """

    losses: dict[str, Tensor]
    terms: dict[str, Tensor]
    diagnostics: dict[str, Tensor]
    sums: dict[str, Totals]
    rows: dict[str, Totals]


def alone(value: Tensor) -> Tensor:
    """Return the value: the reduction of a single process."""
    return value


def _add(
    found: dict[str, Value], new: Mapping[str, Value], objective: str, kind: str, taken: Sequence[str] = ()
) -> None:
    """Add what an objective measured by name; refuse a name that another one uses, whose value would be lost."""
    if same := [name for name in new if name in found or name in taken]:
        raise ConfigError(
            f"objectives.{objective} names a {kind} {same[0]!r}, and so does another objective of the recipe; give it"
            " another name in one of them"
        )
    found.update(new)


class PretrainModule(nn.Module):
    """All that a recipe trains: ``model`` (the masked pass) and ``objectives`` (its losses)."""

    progress: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        active = recipe.objectives.active()
        self.recipe = recipe
        self.grid = grid_of(recipe)
        self.weights = {name: float(section.weight) for name, section in active.items()}
        if not active and not recipe.objectives.unread():
            raise ConfigError(
                "every objective has weight 0, so there is nothing to learn; set one, for example"
                " objectives.reconstruct.weight=1"
            )
        _check_mixtures(recipe, self.grid)
        teacher = recipe.teacher
        self.model = MaskedModel(recipe.model, self.grid, needs_teacher(recipe), teacher.init_from_student, teacher)
        self.objectives = nn.ModuleDict(
            {name: REGISTERED[name].build(active[name], self.model, recipe.teacher) for name in active}
        )
        self.model.layers = tuple(sorted({layer for objective in self.parts() for layer in objective.layers}))
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        if not any(objective.needs_decoder for objective in self.parts()):
            self.model.without_decoder()
        self.sum_over_processes: Callable[[Tensor], Tensor] = alone
        self.gather_over_processes: Callable[[Tensor], Tensor] = alone

    def training_mask(self, batch: Batch) -> Mask:
        """Return the mask of a batch: a row for each view of each window."""
        recipe = self.recipe
        return masking.training_mask(recipe.model, self.grid, batch.noise, batch.valid, recipe.mask)

    def totals(self, batch: Batch, mask: Mask) -> dict[str, Totals]:
        """Return the sums over a batch that each objective needs of the whole batch."""
        batch, mask, _ = with_mixtures(batch, mask, self.grid)
        rows = batch.for_views(mask)
        return {
            name: objective.totals(rows, mask) for name, objective in zip(self.objectives, self.parts(), strict=True)
        }

    def forward(self, batch: Batch, mask: Mask, totals: Mapping[str, Totals]) -> PassResult:
        """Run one masked pass. It exchanges nothing with other processes, so that it compiles into one graph.

        Parameters
        ----------
        totals : mapping
            Sum of `totals` over all parts and processes of the batch.
        """
        batch, mask, sources = with_mixtures(batch, mask, self.grid)
        out = self.model(self.grid.patchify(batch.spec), mask, batch.valid, sources)
        out.progress = self.progress
        windows = batch.for_views(mask)
        found = PassResult({}, {}, {}, {}, {})
        for name, objective in zip(self.objectives, self.parts(), strict=True):
            out.terms, out.diagnostics, out.sums = {}, {}, {}  # each objective has names of its own
            if compared := objective.rows(out, windows):
                found.rows[name] = compared
            else:
                found.losses[name] = objective.loss(out, windows, totals[name])
            found.sums[name] = out.sums
            _add(found.terms, out.terms, name, "term of the loss", taken=list(self.objectives))
            _add(found.diagnostics, out.diagnostics, name, "diagnostic")
        return found

    def finish(self, found: PassResult, totals: Mapping[str, Totals]) -> dict[str, Float[Tensor, ""]]:
        """Exchange the sums and rows of a pass with the other processes, and return the losses.

        Returns
        -------
        dict of Tensor
            "loss", the weighted sum of objectives; "loss/<objective>", each of them; "loss/<objective>/<term>", the
            parts of an objective of several. Their sums over all parts of the batch are the losses of the batch.
            "diagnostics/<name>": the diagnostics of this part.
        """
        losses, diagnostics = {}, dict(found.diagnostics)
        for name, objective in zip(self.objectives, self.parts(), strict=True):
            if name in found.rows:
                everyone = {key: self.gather_over_processes(value) for key, value in found.rows[name].items()}
                losses[name] = objective.loss_of_rows(found.rows[name], everyone, totals[name])
            else:
                losses[name] = found.losses[name]
            sums = {key: self.sum_over_processes(value) for key, value in found.sums[name].items()}
            _add(diagnostics, objective.after_pass(sums), name, "diagnostic")
        total = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        named = {f"loss/{name}": value for name, value in (losses | found.terms).items()}
        return {"loss": total, **named, **{f"diagnostics/{name}": value for name, value in diagnostics.items()}}

    def losses(self, batch: Batch, mask: Mask) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a whole batch, as `finish`."""
        totals = self.totals(batch, mask)
        return self.finish(self(batch, mask, totals), totals)

    def parts(self) -> Iterator[Objective]:
        """Yield the objectives, in the order in which they were built."""
        return (cast(Objective, objective) for objective in self.objectives.values())

    def begin_step(self, when: TrainingProgress) -> None:
        """Set the progress of the run, before the first pass of a step."""
        self.progress.fill_(when.progress)

    def before_step(self, when: TrainingProgress) -> None:
        """Update the teachers between the gradients and the optimiser step; ``when`` counts the steps done before
        it.
        """
        self._move_teacher("before_step", when)
        for objective in self.parts():
            objective.before_step(when)

    def after_step(self, when: TrainingProgress) -> None:
        """Update the teachers after an optimiser step; ``when`` counts it."""
        self._move_teacher("after_step", when)
        for objective in self.parts():
            objective.after_step(when)

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        """Return momenta and temperatures at this step, for the metrics log."""
        found: dict[str, float] = {}
        for name, objective in zip(self.objectives, self.parts(), strict=True):
            _add(found, objective.schedules(when), name, "schedule", taken=("teacher_momentum",))
        if self.model.teacher is not None:
            found["teacher_momentum"] = self.momentum(when)
        return {f"diagnostics/{name}": value for name, value in found.items()}

    def momentum(self, when: TrainingProgress) -> float:
        """Return the teacher's momentum."""
        teacher = self.recipe.teacher
        ends = teacher.momentum_start, teacher.momentum_end
        return momentum(*ends, teacher.max_initial_weight, when, teacher.anneal)

    def _move_teacher(self, hook: Literal["before_step", "after_step"], when: TrainingProgress) -> None:
        if self.model.teacher is not None and self.recipe.teacher.should_update(hook, when):
            self.model.teacher.ema_update(self.model.encoder, self.momentum(when))

    def export_state_dict(self) -> dict[str, Tensor]:
        """Return the weights of a model folder: all but teachers and the heads that only training needs."""
        passing = [
            f"objectives.{name}."
            for name, objective in zip(self.objectives, self.parts(), strict=True)
            if not objective.saved
        ]
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith(("model.teacher.", *passing))
        }


def needs_teacher(recipe: Recipe) -> bool:
    """Return whether an active objective reads the predictor and the EMA teacher."""
    return any(REGISTERED[name].teacher for name in recipe.objectives.active())


def _check_mixtures(recipe: Recipe, grid: Grid) -> None:
    active = recipe.objectives.active()
    if not recipe.data.mixtures:
        if "retention" in active:
            raise ConfigError("objectives.retention predicts the sources of mixtures; set data.mixtures=true")
        return
    if "retention" in active and recipe.teacher.sees != "all":
        raise ConfigError("objectives.retention needs the targets of all patches; set teacher.sees=all")
    if refused := [name for name in active if name not in MIXABLE]:
        raise ConfigError(
            f"data.mixtures cannot be combined with objectives.{refused[0]}; set its weight to 0, or"
            " data.mixtures=false"
        )
    if grid.time < MIN_COLUMNS:
        raise ConfigError(
            f"data.mixtures needs windows of at least {MIN_COLUMNS} columns of patches; these have {grid.time}; set"
            f" model.frames to at least {MIN_COLUMNS * grid.patch_size[1]}"
        )


def weights_of_others(recipe: Recipe, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that only objectives from outside the package need.

    These are their own weights, and those of a predictor that no other objective needs.
    """
    parts = tuple(f"objectives.{name}." for name in recipe.objectives.unread())
    if parts and not needs_teacher(recipe):
        parts = (*parts, "model.predictor.")
    return {name: value for name, value in tensors.items() if name.startswith(parts)}


def grid_of(recipe: Recipe) -> Grid:
    """Return the patch grid of a recipe's window."""
    model = recipe.model
    return Grid.of(recipe.frontend.n_mels, model.frames, model.patch_size, model.token_order)


@torch.inference_mode(mode=False)
def build(recipe: Recipe, seed: int | None = None) -> PretrainModule:
    """Build a recipe with weights initialised from ``seed`` (default: the recipe's own).

    Raises
    ------
    ConfigError
        When a size of the model is out of range; sizes set from Python are not checked earlier.
    """
    from_json(Recipe, {"model": to_json(recipe.model)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed if seed is None else seed)
        return PretrainModule(recipe)
