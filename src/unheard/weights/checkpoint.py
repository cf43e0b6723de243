"""Model folders: ``config.json`` + ``model.safetensors`` + ``README.md``.

A folder holds encoder, decoder and heads, the front end, the normalisation statistics and the provenance of the
weights. The folder of a fine-tuned model also holds its classifier and the names of the classes. Nothing is parsed from
the name of the folder, and nothing in it is a pickle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.config import from_json, to_json
from unheard.errors import CheckpointError, ConfigError
from unheard.files import (
    FILES,
    file_checksums,
    read_json,
    recover_interrupted,
    replace_folder,
    write_json,
)
from unheard.model.classifier import Classifier, ClassifierConfig
from unheard.model.sizes import resolve_sizes
from unheard.recipes.learner import PretrainModule, build, grid_of, weights_of_others
from unheard.recipes.recipe import Recipe, read_recipe
from unheard.recipes.renamed import current_names
from unheard.version import __version__
from unheard.weights.card import model_card
from unheard.weights.comparison import compare_shapes, refuse_not_finite
from unheard.weights.plausible import printable, refuse_implausible
from unheard.weights.step import at_step, is_step, model_of_step
from unheard.weights.tensors import read_tensors, write_tensors

FORMAT = 1
WEIGHTS = "model.safetensors"
CHECK = "check.safetensors"
CLASSIFIER = "classifier."  # prefix of its weights in model.safetensors
ENSEMBLE_DIR = "members"  # folder with the models of a run that trains several, one for each fold and channel


@dataclass(frozen=True)
class Provenance:
    """Origin of weights; stored in the folder and printed in its model card."""

    source: str = ""
    """The run or file from which the weights were made."""
    licence: str = ""
    """Terms of the weights, if others published them."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Training data: clips, hours, steps, crops."""
    notes: tuple[str, ...] = ()
    """Notes for the user."""
    encoder_only: bool = False
    """The decoder is not trained: embedding works, reconstruction does not."""


@dataclass
class SavedModel:
    """A loaded model folder."""

    learner: PretrainModule
    recipe: Recipe
    statistics: Statistics
    provenance: Provenance
    classifier: Classifier | None = None
    """Set for a fine-tuned model."""
    others: dict[str, Tensor] = field(default_factory=dict)
    """Weights that only objectives from outside the package need; a run that starts from this model uses those that
    fit.
    """
    check: dict[str, Tensor] = field(default_factory=dict)
    """A sound and its stored embedding, see `unheard.embedding.stored_check`; empty if the folder has none."""

    def frozen(self) -> SavedModel:
        """Switch to evaluation without gradients. Return the model itself."""
        for module in (self.learner, self.classifier):
            if module is not None:
                module.eval().requires_grad_(False)
        return self


def model_config(recipe: Recipe, statistics: Statistics, provenance: Provenance) -> dict[str, Any]:
    """Return the content of ``config.json`` of a model folder, without classifier and checksums."""
    return {
        "format": FORMAT,
        "unheard": __version__,
        "recipe": to_json(recipe),
        "statistics": to_json(statistics),
        "provenance": to_json(provenance),
    }


def save_model(
    folder: Path,
    learner: PretrainModule,
    recipe: Recipe,
    statistics: Statistics,
    provenance: Provenance,
    classifier: Classifier | None = None,
    tensors: dict[str, Tensor] | None = None,
) -> None:
    """Write a model folder; an existing one is replaced only when the new one is complete.

    Parameters
    ----------
    tensors : dict of Tensor, optional
        The weights, if those of ``learner`` are split over several processes.
    """
    config = model_config(recipe, statistics, provenance)
    tensors = learner.export_state_dict() if tensors is None else tensors
    labels = classifier.config.labels if classifier is not None else ()
    if classifier is not None:
        config["classifier"] = to_json(classifier.config)
        tensors |= {CLASSIFIER + name: value for name, value in classifier.state_dict().items()}

    def write(place: Path) -> None:
        write_tensors(place / WEIGHTS, tensors)
        write_json(place / "config.json", {**config, FILES: file_checksums(place, [WEIGHTS])})
        card = model_card(
            recipe, statistics, provenance.source, provenance.licence, provenance.trained, provenance.notes, labels
        )
        (place / "README.md").write_text(card, encoding="utf-8")

    replace_folder(folder, write)


@torch.inference_mode(mode=False)
def load_model(path: Path) -> SavedModel:
    """Read a model folder, the latest model of a run folder, or a checkpoint that the run has kept.

    Raises
    ------
    CheckpointError
        When there is no model, it was written by a newer version, or its weights do not fit its configuration.
    """
    step = is_step(path)
    inner = recover_interrupted(model_of_step(path) if step else path / "model")
    folder = inner if step or (inner / "config.json").is_file() else recover_interrupted(path)
    config = _read_config(folder)
    try:
        if step:
            config, stored = at_step(path, config, folder / WEIGHTS)
        else:
            stored = read_tensors(folder / WEIGHTS, config.get(FILES))
        values, tensors = current_names(config["recipe"], stored)
        recipe = read_recipe(values)
        statistics = from_json(Statistics, config["statistics"])
        provenance = from_json(Provenance, config["provenance"])
        head = from_json(ClassifierConfig, config["classifier"]) if "classifier" in config else None
        check = read_tensors(folder / CHECK, config[FILES]) if CHECK in config.get(FILES, {}) else {}
        others = weights_of_others(recipe, tensors)
        refuse_not_finite(others, str(folder))
        learner, classifier = build_for(
            recipe, head, {name: tensors[name] for name in tensors if name not in others}, str(folder)
        )
    except (KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{folder}/config.json does not describe a model of this version: {printable(str(error))}"
        ) from error
    return SavedModel(learner, recipe, statistics, provenance, classifier, others, check).frozen()


@torch.inference_mode(mode=False)
def build_classifier(config: ClassifierConfig, recipe: Recipe) -> Classifier:
    """Build a classifier for the encoder of ``recipe``; its initial weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return Classifier(config, resolve_sizes(recipe.model).embed_dim, grid_of(recipe).freq)


@torch.inference_mode(mode=False)
def build_for(
    recipe: Recipe, head: ClassifierConfig | None, tensors: dict[str, Tensor], source: str, encoder_only: bool = False
) -> tuple[PretrainModule, Classifier | None]:
    """Build the model of a recipe and load its weights, in memory bounded by the weights.

    Sizes are as untrusted as the weights, so they are compared before anything of their size is allocated. The model is
    built on the meta device first, where tensors have shapes and no values.

    Parameters
    ----------
    encoder_only : bool
        Whether the other parts keep their initial weights.

    Raises
    ------
    CheckpointError
        When the recipe describes a larger model than the weights, tensors do not fit, or a weight is NaN or infinite.
    """

    def complete(learner: PretrainModule) -> dict[str, Tensor]:
        others = {
            name: value for name, value in learner.export_state_dict().items() if not name.startswith("model.encoder.")
        }
        return {**others, **tensors} if encoder_only else tensors

    refuse_implausible(recipe, tensors, source)
    with torch.device("meta"):
        sketch = build(recipe, seed=0), None if head is None else build_classifier(head, recipe)
    compare_shapes(lasting(*sketch), complete(sketch[0]), source)
    learner, classifier = build(recipe, seed=0), None if head is None else build_classifier(head, recipe)
    load_weights(learner, complete(learner), source, classifier)
    return learner, classifier


def is_model(folder: Path) -> bool:
    """Return whether a folder is empty or was written by `save_model`; Hugging Face uses files of the same names."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        _read_config(folder)
    except (CheckpointError, OSError):
        return False
    return True


def load_weights(
    learner: PretrainModule, tensors: dict[str, Tensor], source: str, classifier: Classifier | None = None
) -> None:
    """Load all saved weights, with the right shapes; names of classifier weights begin with ``classifier.``.

    Raises
    ------
    CheckpointError
        Naming the tensors that are missing, unexpected, of another shape, or hold NaN or infinity.
    """
    compare_shapes(lasting(learner, classifier), tensors, source)
    refuse_not_finite(tensors, source)
    learner.load_state_dict(
        {name: value for name, value in tensors.items() if not name.startswith(CLASSIFIER)}, strict=False
    )
    if classifier is not None:
        classifier.load_state_dict(
            {name.removeprefix(CLASSIFIER): value for name, value in tensors.items() if name.startswith(CLASSIFIER)}
        )


def lasting(learner: PretrainModule, classifier: Classifier | None) -> dict[str, Tensor]:
    """Return the tensors of a model folder by name."""
    head = {} if classifier is None else {CLASSIFIER + name: value for name, value in classifier.state_dict().items()}
    return learner.export_state_dict() | head


def _read_config(folder: Path) -> dict[str, Any]:
    if several := sorted(place.name for place in (folder / ENSEMBLE_DIR).glob("*") if place.is_dir()):
        raise CheckpointError(
            f"{folder} holds {len(several)} models ({', '.join(several)}); unheard predict and unheard evaluate with a"
            f" labels.csv average them; otherwise give one of them, such as {folder / ENSEMBLE_DIR / several[0]}"
        )
    if not (folder / "config.json").is_file() or not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} is not a model; give a folder with config.json and model.safetensors, or a run folder with"
            " model/ in it"
        )
    config = read_json(folder / "config.json", CheckpointError, "copy the model again")
    if not isinstance(config.get("format"), int):
        raise CheckpointError(f"{folder}/config.json does not describe a model of unheard: it has no format number")
    if config["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} was written by unheard {config.get('unheard')}, newer than this one ({__version__}); upgrade"
            " unheard"
        )
    return config
