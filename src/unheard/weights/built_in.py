"""Built-in models: the trained model of the package, and randomly initialised encoders as baselines."""

from __future__ import annotations

import difflib
import re
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
from unheard.remote.listing import is_file
from unheard.remote.reading import copied_folder, local_folder
from unheard.weights.checkpoint import Provenance, SavedModel, load_model
from unheard.weights.export.hf_folder import is_hf, open_hf
from unheard.weights.names import HEAR, HF, model_address, refuse_names_of_others
from unheard.weights.step import is_step

DEFAULT = "unheard-tiny"
"""The trained model of the package, which is used where no model is given."""
FOLDER = Path(__file__).parent.parent / "builtin"
"""Folder of the trained models of the package."""
RANDOM = tuple(f"random-{size}" for size in SIZES)
BUILT_IN = (DEFAULT, *RANDOM)
NOT_OF_MODEL = frozenset({"checkpoints", "corpus", "tensorboard", "figures"})
"""Folders of a run at an address, and of the models in it, that loading it does not need."""
RANDOM_STATISTICS = Statistics((-7.1,), (4.2,))  # of AudioSet, as fixed in the M2D reference


@torch.inference_mode(mode=False)
def open_model(name: str | Path) -> SavedModel:
    """Read a model: a run folder, a model folder, an exported Hugging Face folder, or one of `BUILT_IN`.

    A folder may be at an address.

    Its tensors can be trained and saved for a backward pass, even if it is read inside ``torch.inference_mode()``.

    Raises
    ------
    CheckpointError
        When there is no such model, or it is one of another library.
    """
    text = str(name)
    if text == DEFAULT:
        return load_model(trained_folder())
    if text in RANDOM:
        return untrained(text)
    if address := model_address(name):
        if STEP.search(address):
            raise CheckpointError(f"{address} is a checkpoint; copy its run, and load the checkpoint from the copy")
        with copied_folder(address, is_needed) as folder:
            return open_model(folder)
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


STEP = re.compile(r"/checkpoints/step-\d+$")
"""End of the address of a checkpoint, which is not a model without its run."""


def local_model(name: str | Path) -> Path:
    """Return the folder of a run or model; of one at an address, a local copy of what is needed to load it."""
    return local_folder(model_address(name) or name, is_needed)


def is_needed(file: str) -> bool:
    """Return whether loading a run or model at an address needs a file, by its name relative to the folder."""
    return not NOT_OF_MODEL.intersection(file.split("/")[:-1]) or file.endswith("/state.json")


def trained_folder() -> Path:
    """Return the folder of the trained model of the package.

    Raises
    ------
    CheckpointError
        When this installation does not contain it.
    """
    folder = FOLDER / DEFAULT
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"this installation does not contain the model {DEFAULT} ({folder} is missing); install a wheel of unheard"
            f" that contains it, make it with scripts/train-tiny, or give another model, such as {RANDOM[0]}"
        )
    return folder


def is_model_name(name: str) -> bool:
    """Return whether a text names a model: a built-in name, one of another library, or a folder that holds a model."""
    if name in BUILT_IN or (name.startswith((HF, HEAR)) and not model_address(name)):
        return True
    return (
        is_step(Path(name))
        or bool(STEP.search(model_address(name)))
        or any(is_file(place / "config.json") for place in (Path(name), Path(name, "model")))
    )


def origin_of(name: str | Path) -> str:
    """Return a built-in name, the address, or the absolute path of a model."""
    return model_address(name) or (str(name) if str(name) in BUILT_IN else str(Path(name).absolute()))


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
