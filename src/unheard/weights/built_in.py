"""Built-in models: randomly initialised encoders, the baseline for every result."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from unheard.audio.frontend import Statistics
from unheard.errors import CheckpointError
from unheard.files import recover_interrupted
from unheard.model.sizes import SIZES, Size
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, SavedModel, load_model
from unheard.weights.export.hf_folder import is_hf, open_hf
from unheard.weights.names import refuse_names_of_others

BUILT_IN = tuple(f"random-{size}" for size in SIZES)
RANDOM_STATISTICS = Statistics((-7.1,), (4.2,))  # of AudioSet, as fixed in the M2D reference


@torch.inference_mode(mode=False)
def open_model(name: str | Path) -> SavedModel:
    """Read a model: a run folder, a model folder, an exported Hugging Face folder, or one of `BUILT_IN`.

    Its tensors can be trained and saved for a backward pass, even if it is read inside ``torch.inference_mode()``.

    Raises
    ------
    CheckpointError
        When there is no such model, or it is one of another library.
    """
    text = str(name)
    if text in BUILT_IN:
        return untrained(text)
    refuse_names_of_others(text)
    if not recover_interrupted(Path(name)).exists():
        near = difflib.get_close_matches(text, BUILT_IN, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"give a run or model folder, or a built-in name: {', '.join(BUILT_IN)}"
        )
        raise CheckpointError(f"there is no model {text}; {hint}")
    return open_hf(Path(name)) if is_hf(Path(name)) else load_model(Path(name))


def untrained(name: str) -> SavedModel:
    """Return a built-in randomly initialised encoder with fixed weights: the default recipe at that size, seed 0."""
    recipe = find_recipe("msm-mae")
    recipe = replace(recipe, name=name, model=replace(recipe.model, size=cast(Size, name.removeprefix("random-"))))
    return reinitialised(SavedModel(build(recipe, seed=0), recipe, RANDOM_STATISTICS, Provenance()), seed=0)


@torch.inference_mode(mode=False)
def reinitialised(saved: SavedModel, seed: int) -> SavedModel:
    """Return the same model with random weights: same front end, statistics and sizes; trainable as from
    `open_model`.
    """
    learner = build(saved.recipe, seed=seed).eval().requires_grad_(False)
    note = ("Random weights: a baseline, not a trained model.",)
    return SavedModel(
        learner,
        saved.recipe,
        saved.statistics,
        Provenance(source=f"random, seed {seed}", notes=note, encoder_only=True),
    )
