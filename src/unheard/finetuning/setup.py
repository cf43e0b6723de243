"""Initial model of a fine-tuning run: a trained encoder with a new classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unheard.finetuning.recipe import FinetuneRecipe
from unheard.model.classifier import ClassifierConfig
from unheard.recipes.learner import build
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, SavedModel, build_classifier


@dataclass(frozen=True)
class FinetuneSetup:
    """Settings that all models of a run share.

    Parameters
    ----------
    recipe : FinetuneRecipe
    classes : tuple of str
    activation : {"softmax", "sigmoid"}
    source : str
        Name or path of the model that is fine-tuned.
    """

    recipe: FinetuneRecipe
    classes: tuple[str, ...]
    activation: str
    source: str


def begin(saved: SavedModel, start: FinetuneSetup) -> SavedModel:
    """Return a copy of a trained encoder with a new classifier.

    If patch tokens are pooled, the final norm of the encoder is replaced by that of the classifier, as in MaskSpec and
    AudioMAE.
    """
    task, adapt, training = start.recipe.task, start.recipe.adapt, start.recipe.training
    keeps = saved.recipe.model.final_norm if task.pool == "cls" else False
    model = replace(saved.recipe.model, final_norm=keeps, trainable_positions=adapt.trainable_positions)
    recipe = replace(saved.recipe, model=model, training=replace(saved.recipe.training, seed=training.seed))
    learner = build(recipe)
    own = learner.state_dict()
    learner.load_state_dict(
        {name: value for name, value in saved.learner.state_dict().items() if name in own}, strict=False
    )
    head = ClassifierConfig(start.classes, start.activation, task.pool, "none" if task.pool == "cls" else task.norm)  # type: ignore[arg-type]
    notes = ("Fine-tuned: the encoder is adapted to these classes, and no decoder matches it any more.",)
    origin = Provenance(
        f"{start.source}, fine-tuned with unheard {__version__}", saved.provenance.licence, {}, notes, encoder_only=True
    )
    return SavedModel(learner, recipe, saved.statistics, origin, build_classifier(head, recipe))
