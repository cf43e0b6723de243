"""The initial model of a run: built from a recipe, optionally with the weights of another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from unheard.config import to_json
from unheard.errors import CheckpointError, ConfigError
from unheard.model.masking import masked_fraction
from unheard.model.sizes import resolve_sizes
from unheard.objectives.registry import REGISTERED
from unheard.recipes.learner import PretrainModule, build, grid_of
from unheard.recipes.recipe import Recipe, TrainingConfig
from unheard.weights.built_in import RANDOM, open_model

EXTERNAL = ("distill", "contrast")
"""Objectives that need a frozen teacher or captions."""
SIZE = ("embed_dim", "depth", "num_heads")
"""Sizes of the encoder that cannot change."""


def build_initialised(recipe: Recipe, init: str | Path | None) -> PretrainModule:
    """Build the learner of a run.

    Raises
    ------
    ConfigError
        When the recipe masks no patch, but has to predict masked patches.
    CheckpointError
        When the weights of ``init`` do not match.
    """
    learner = build(recipe)
    if learner.model.use_decoder:
        check_mask_ratio(recipe)
    if init is not None:
        start_from(learner, str(init))
    return learner


def start_from(learner: PretrainModule, source: str) -> None:
    """Copy every weight of a saved model whose name and shape match into ``learner``.

    Fixed position tables are not copied, so the window may differ.

    Raises
    ------
    CheckpointError
        When the front end, the patch size or the size of the encoder differ.
    """
    saved = open_model(source)
    _refuse_different(saved.recipe, learner.recipe, source)
    saved_tensors = saved.learner.export_state_dict() | saved.others
    own = learner.state_dict()
    fitting = {name: value for name, value in saved_tensors.items() if name in own and own[name].shape == value.shape}
    trained = {name for name, _ in learner.named_parameters() if name.startswith("model.encoder.")}
    if missing := sorted(trained - fitting.keys()):
        raise CheckpointError(
            f"--init {source}: its encoder differs from that of the recipe ({missing[0]}); set model.* to the values of"
            f" {source}, or omit --recipe to continue with its recipe"
        )
    learner.load_state_dict(fitting, strict=False)
    teacher = learner.model.teacher
    if teacher is not None and learner.recipe.teacher.init_from_student:
        teacher.ema_update(learner.model.encoder, momentum=0.0)


def continued_recipe(source: str | Path) -> tuple[Recipe, list[str]]:
    """Return the recipe with which a model is trained further, and the names of the objectives that are left out.

    Front end, model, window and statistics are those of the model. Objectives that need a teacher of others, labels or
    captions are left out, because these belong to the first corpus. Length, precision and devices are the defaults.

    Raises
    ------
    ConfigError
        When no objective is left.
    CheckpointError
        When there is no such model.
    """
    recipe = open_model(source).recipe
    given = recipe.objectives
    left_out = [name for name in given.active() if name in EXTERNAL or REGISTERED[name].labels]
    kept = given.updated(*(replace(given[name], weight=0.0) for name in left_out))
    if not kept.active():
        raise ConfigError(
            f"--init {source}: it was trained with {', '.join(left_out) or 'unknown objectives'} alone, and these need"
            " teachers, labels or captions; choose how to continue with --recipe"
        )
    defaults = TrainingConfig()
    training = replace(
        recipe.training,
        **{name: getattr(defaults, name) for name in ("epochs", "steps", "precision", "compile", "devices")},
    )
    statistics: Literal["model", "scalar"] = "scalar" if str(source) in RANDOM else "model"
    data = replace(recipe.data, statistics=statistics)
    return replace(recipe, objectives=kept, training=training, data=data), left_out


def _refuse_different(theirs: Recipe, ours: Recipe, source: str) -> None:
    """Refuse a model whose front end, patch size or size differs from the recipe; names every difference."""
    sections = {
        "frontend": (to_json(theirs.frontend), to_json(ours.frontend)),
        "model": (_sizes(theirs), _sizes(ours)),
    }
    found = [
        f"{section}.{name} is {old.get(name)}, that of the recipe {new.get(name)}"
        for section, (old, new) in sections.items()
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if found:
        raise CheckpointError(
            f"--init {source} differs from the recipe: {'; '.join(found)}; set these fields to its values with --set,"
            " or omit --recipe to continue with its recipe"
        )


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """Return what must be equal of a model and the recipe that continues it."""
    sizes = resolve_sizes(recipe.model)
    return {"patch_size": list(recipe.model.patch_size), **{name: getattr(sizes, name) for name in SIZE}}


def check_mask_ratio(recipe: Recipe) -> None:
    """Check that the mask settings mask at least one patch.

    Raises
    ------
    ConfigError
        When no patch is masked; names the smallest valid ratio.
    """
    grid, model = grid_of(recipe), recipe.model
    if masked_fraction(model, grid) > 0:
        return
    if model.mask_ratio_2d is None:
        requested, enough = f"mask_ratio={model.mask_ratio:g}", f"{1 / grid.num_patches:.3g}"
    else:
        requested, enough = f"mask_ratio_2d={list(model.mask_ratio_2d)}", f"[{1 / grid.freq:.3g}, {1 / grid.time:.3g}]"
    raise ConfigError(
        f"model.{requested} masks none of the {grid.num_patches} patches, so there is nothing to predict; set at least"
        f" {enough}"
    )
