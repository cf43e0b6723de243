"""The model of a run before its first step: built from a recipe, perhaps with weights of another model."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import CheckpointError, ConfigError
from unheard.model.masking import masked_fraction
from unheard.recipes.learner import PretrainModule, build, grid_of
from unheard.recipes.recipe import Recipe
from unheard.weights.built_in import open_model


def begun(recipe: Recipe, init: str | Path | None) -> PretrainModule:
    """Build the learner of a run.

    Raises
    ------
    ConfigError
        When the recipe hides no patch and has to predict some.
    CheckpointError
        When the weights of ``init`` do not fit.
    """
    learner = build(recipe)
    if learner.model.use_decoder:
        check_mask_ratio(recipe)
    if init is not None:
        start_from(learner, str(init))
    return learner


def start_from(learner: PretrainModule, source: str) -> None:
    """Copy into ``learner`` every weight of a saved model that has its name and shape.

    Raises
    ------
    CheckpointError
        When the encoders differ.
    """
    saved = open_model(source)
    theirs = saved.learner.export_state_dict() | saved.others
    mine = learner.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    missing = [name for name in mine if name.startswith("model.encoder.") and name not in fitting]
    if missing:
        raise CheckpointError(
            f"--init {source}: its encoder has another size or patch than the recipe's ({missing[0]} differs); set"
            " model.* to match"
        )
    learner.load_state_dict(fitting, strict=False)
    teacher = learner.model.teacher
    if teacher is not None and learner.recipe.teacher.init_from_student:
        teacher.ema_update(learner.model.encoder, momentum=0.0)


def check_mask_ratio(recipe: Recipe) -> None:
    """Refuse mask settings so small that no patch is hidden.

    Raises
    ------
    ConfigError
        With the smallest ratio that hides one.
    """
    grid, model = grid_of(recipe), recipe.model
    if masked_fraction(model, grid) > 0:
        return
    if model.mask_ratio_2d is None:
        asked, enough = f"mask_ratio={model.mask_ratio:g}", f"{1 / grid.num_patches:.3g}"
    else:
        asked, enough = f"mask_ratio_2d={list(model.mask_ratio_2d)}", f"[{1 / grid.freq:.3g}, {1 / grid.time:.3g}]"
    raise ConfigError(
        f"model.{asked} hides none of the {grid.num_patches} patches, so there is nothing to predict; set at least"
        f" {enough}"
    )
