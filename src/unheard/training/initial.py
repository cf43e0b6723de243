"""The initial model of a run: built from a recipe, optionally with the weights of another model."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import CheckpointError, ConfigError
from unheard.model.masking import masked_fraction
from unheard.recipes.learner import PretrainModule, build, grid_of
from unheard.recipes.recipe import Recipe
from unheard.weights.built_in import open_model


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

    Raises
    ------
    CheckpointError
        When the encoders differ in size.
    """
    saved = open_model(source)
    saved_tensors = saved.learner.export_state_dict() | saved.others
    own = learner.state_dict()
    fitting = {name: value for name, value in saved_tensors.items() if name in own and own[name].shape == value.shape}
    missing = [name for name in own if name.startswith("model.encoder.") and name not in fitting]
    if missing:
        raise CheckpointError(
            f"--init {source}: its encoder differs from that of the recipe in size or patch size ({missing[0]}); change"
            " model.* to match"
        )
    learner.load_state_dict(fitting, strict=False)
    teacher = learner.model.teacher
    if teacher is not None and learner.recipe.teacher.init_from_student:
        teacher.ema_update(learner.model.encoder, momentum=0.0)


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
