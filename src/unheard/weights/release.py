"""Released models: a model folder with float16 weights, licence and scores, and a sound with its stored embedding.

config.json, model.safetensors    as in every model folder; the weights are float16
README.md                         model card, with the licence of the weights, the teachers and the scores
release.json                      the same as plain values, see `Release`
check.safetensors                 one second of sound and its embedding, see `unheard.embedding.stored_check`
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unheard.config import from_json, to_json
from unheard.errors import CheckpointError, ConfigError
from unheard.files import CHECKSUM, FILES, file_checksums, replace_folder, write_json
from unheard.recipes.recipe import Recipe
from unheard.weights.card import model_card
from unheard.weights.checkpoint import CHECK, WEIGHTS, SavedModel, is_model, model_config
from unheard.weights.tensors import write_tensors

RELEASE = "release.json"


@dataclass(frozen=True)
class ReleasedTeacher:
    """A teacher from whose features a released model was trained."""

    name: str = ""
    """Name of the teacher."""
    supervision: str = ""
    """What the teacher was trained with, such as the labels of a data set."""
    licence: str = ""
    """Licence of the weights of the teacher."""
    source: str = ""
    """Package or address of these weights."""


@dataclass(frozen=True)
class ReleasedScore:
    """A score of a released model."""

    task: str = ""
    """Name of the task."""
    metric: str = ""
    """Metric."""
    value: float = 0.0
    """Value of the metric, from 0 to 1."""
    protocol: str = ""
    """Protocol, such as robust or probe."""


@dataclass(frozen=True)
class Release:
    """What a released model states about itself."""

    name: str = ""
    """Name of the model."""
    licence: str = ""
    """Licence of its weights."""
    training: str = ""
    """Its data, its objectives and the length of its training."""
    teachers: tuple[ReleasedTeacher, ...] = ()
    """Every teacher of its training."""
    scores: tuple[ReleasedScore, ...] = ()
    """Its scores."""

    def lines(self) -> list[str]:
        """Return training, licence, teachers and scores as Markdown."""
        lines = ["", "## Training", "", self.training] if self.training else []
        lines += ["", "## Licence", "", f"The weights are under {self.licence}."]
        if self.teachers:
            lines += [
                "They were trained to predict features of the teachers below. No teacher is part of this folder.",
                *("", "| teacher | trained with | licence | source |", "|---|---|---|---|"),
                *(f"| {each.name} | {each.supervision} | {each.licence} | {each.source} |" for each in self.teachers),
            ]
        if self.scores:
            lines += [
                *("", "## Scores", "", "| task | metric | score | protocol |", "|---|---|---|---|"),
                *(f"| {each.task} | {each.metric} | {each.value:.3f} | {each.protocol} |" for each in self.scores),
            ]
        return lines


def read_release(file: Path) -> Release:
    """Read the description of a release.

    Raises
    ------
    ConfigError
        When it is missing, not JSON, has unknown fields, or lacks a name or a licence.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; give a JSON file with the name, licence, teachers and scores")
    try:
        values = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON ({error}); correct it") from error
    if isinstance(values, dict):
        values.pop(CHECKSUM, None)
    release = from_json(Release, values)
    unnamed = [each for each in release.teachers if not (each.name and each.supervision and each.licence)]
    if not release.name or not release.licence or unnamed:
        raise ConfigError(
            f"{file} must hold the name and the licence of the model, and the name, supervision and licence of every"
            " teacher"
        )
    return release


def releasable(saved: SavedModel, release: Release) -> SavedModel:
    """Return a copy of a model as it is released: weights rounded to float16, and no paths of this machine.

    Raises
    ------
    ConfigError
        When the model was trained with more teachers than the release lists.
    CheckpointError
        When a weight is outside the range of float16.
    """
    recipe = _without_paths(saved.recipe)
    trained_with = recipe.objectives.distill.teachers if recipe.objectives.distill.weight > 0 else ()
    if len(trained_with) > len(release.teachers):
        raise ConfigError(
            f"the model was trained with {len(trained_with)} teachers ({', '.join(each.name for each in trained_with)})"
            f" and the release lists {len(release.teachers)}; add the others with their supervision and licence"
        )
    learner = copy.deepcopy(saved.learner)
    for name, value in learner.state_dict().items():
        if value.is_floating_point():
            value.copy_(value.half())
            if not bool(value.isfinite().all()):
                raise CheckpointError(f"the weights {name} are outside the range of float16, so they are not released")
    provenance = replace(saved.provenance, licence=release.licence)
    return replace(saved, learner=learner, recipe=replace(recipe, name=release.name), provenance=provenance)


def save_release(saved: SavedModel, folder: Path, release: Release) -> None:
    """Write the folder of a released model: the result of `releasable`, with its check.

    Raises
    ------
    ConfigError
        When the folder exists and is not a model folder.
    CheckpointError
        When it cannot be written.
    """
    if folder.exists() and not is_model(folder):
        raise ConfigError(f"{folder} is not a model folder, so it is not replaced; choose another -o, or delete it")

    def write(place: Path) -> None:
        write_tensors(
            place / WEIGHTS, {name: _half(value) for name, value in saved.learner.export_state_dict().items()}
        )
        write_tensors(place / CHECK, saved.check)
        write_json(place / RELEASE, to_json(release))
        config = model_config(saved.recipe, saved.statistics, saved.provenance)
        write_json(place / "config.json", {**config, FILES: file_checksums(place, [WEIGHTS, CHECK, RELEASE])})
        origin = saved.provenance
        card = model_card(saved.recipe, saved.statistics, origin.source, origin.licence, origin.trained, origin.notes)
        (place / "README.md").write_text(card + "\n".join(release.lines()) + "\n", encoding="utf-8")

    replace_folder(folder, write)


def _half(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.is_floating_point() else value


def _without_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with the last part of each teacher's path as its name."""
    distill = recipe.objectives.distill
    teachers = tuple(replace(each, name=Path(each.name).name) for each in distill.teachers)
    return replace(recipe, objectives=recipe.objectives.updated(replace(distill, teachers=teachers)))
