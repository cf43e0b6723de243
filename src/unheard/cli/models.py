"""``unheard recipes``, ``models`` and ``convert``."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import ConvertOptions
from unheard.cli.shell import DONE, Flat, Json, Out, Overwrite, Settings, allow_code, emit, table, verb
from unheard.errors import ConfigError

if TYPE_CHECKING:
    from unheard.finetuning.recipe import FinetuneRecipe
    from unheard.recipes.recipe import Recipe
    from unheard.settings import Setting


@verb("unheard recipes msm-mae")
def recipes(
    recipe: str | None = None,
    /,
    *,
    no_code: bool = False,
    finetune: bool = False,
    published: str | None = None,
    json: Json = False,
) -> int:
    """List the recipes for unheard pretrain --recipe, or every setting of one of them.

    Parameters
    ----------
    recipe
        Print every setting of this recipe with its value, accepted values and meaning: a name, or a .py file with a
        recipe() function, which is executed.
    no_code
        Refuse a recipe that is a .py file.
    finetune
        List the recipes for unheard finetune --recipe; with RECIPE, the settings of one of them.
    published
        List the published scores on a data set instead, such as esc50 or openmic; fractions, in JSON percent.
    """
    if published is not None and (finetune or recipe is not None):
        raise ConfigError("--published excludes RECIPE and --finetune; give only one of them")
    if published is not None:
        return _published(published, json)
    if finetune and recipe is None:
        return _finetune_recipes(json)
    from unheard.finetuning.named_recipes import find_finetune_recipe
    from unheard.recipes import find_recipe

    if recipe is None:
        return _pretraining_recipes(json)
    allow_code(recipe, no_code)
    emit_settings(find_finetune_recipe(recipe) if finetune else find_recipe(recipe), json)
    return DONE


def emit_settings(recipe: Recipe | FinetuneRecipe, json: bool, options: Sequence[Setting] = ()) -> None:
    """Print every setting of a recipe as ``--set`` takes it, with its accepted values, default and meaning; then
    options that are no settings.
    """
    from textwrap import wrap

    from unheard.settings import settings_of

    found = [*settings_of(recipe), *options]
    lines = [f"# {recipe.name}; numbers from: {recipe.hyperparameter_source or 'not stated'}"]
    for each in found:
        default = (
            "" if each in options or each.value == each.default else f"; default of the section: {dumps(each.default)}"
        )
        lines += [
            each.given,
            *wrap(f"{each.accepted}{default}. {each.meaning}", 100, initial_indent="    ", subsequent_indent="    "),
        ]
    emit(lines, [vars(each) for each in found], json)


def _pretraining_recipes(json: bool) -> int:
    from unheard.recipes import RECIPES, find_recipe

    rows = [_row(find_recipe(name)) for name in RECIPES]
    header = ("name", "size", "window", "patches", "objectives", "paper", "numbers from")
    lines = table(
        header,
        [
            (
                row["name"],
                row["size"],
                f"{row['frames']} frames ({row['seconds']:.2f} s)",
                "{}x{}".format(*row["patch_size"]),
                ", ".join(row["objectives"]),
                row["paper"],
                row["hyperparameter_source"],
            )
            for row in rows
        ],
    )
    emit(lines, rows, json)
    return DONE


def _finetune_recipes(json: bool) -> int:
    from unheard.config import to_json
    from unheard.finetuning.named_recipes import FINETUNE_RECIPES

    found = [make() for make in FINETUNE_RECIPES.values()]
    rows = [
        (
            each.name,
            each.task.loss,
            (f"{each.training.epochs:g} epochs" if each.training.epochs else f"{each.training.steps} steps")
            + f" of {each.task.epoch_clips or 'all'} clips",
            each.paper,
            each.hyperparameter_source,
        )
        for each in found
    ]
    emit(table(("name", "loss", "length", "paper", "numbers from"), rows), [to_json(each) for each in found], json)
    return DONE


def _published(data_set: str, json: bool) -> int:
    from unheard.evaluation.hear.results import published

    found = [row for row in published() if row.task == data_set]
    if not found:
        raise ConfigError(
            f"there is no published score for {data_set!r}; available:"
            f" {', '.join(sorted({row.task for row in published()}))}"
        )
    found.sort(key=lambda row: (row.protocol, row.score, -row.percent))
    rows = [(row.model, row.score, row.formatted, row.protocol, row.source) for row in found]
    emit(table(("model", "score", "value", "protocol", "source"), rows), [vars(row) for row in found], json)
    return DONE


def _row(recipe: Recipe) -> dict[str, Any]:
    """Return the row of a recipe in the list of recipes."""
    return {
        "name": recipe.name,
        "paper": recipe.paper,
        "hyperparameter_source": recipe.hyperparameter_source,
        "size": recipe.model.size,
        "frames": recipe.model.frames,
        "seconds": recipe.model.frames * recipe.frontend.hop_size / recipe.frontend.sample_rate,
        "patch_size": list(recipe.model.patch_size),
        "objectives": list(recipe.objectives.active()),
    }


@verb("unheard models")
def models(*, json: Json = False) -> int:
    """List the built-in models, and the layouts of published weights that unheard convert reads."""
    from unheard.weights.built_in import RANDOM
    from unheard.weights.layouts import LAYOUTS

    trained, notes = _trained()
    random = [{"name": name, "note": "randomly initialised, for use as a baseline"} for name in RANDOM]
    layouts = [{"layout": name, "licence": layout.licence} for name, layout in LAYOUTS.items()]
    lines = [
        *table(("built in", ""), [(row["name"], row["note"]) for row in [trained, *random]]),
        *notes,
        "",
        *table(("layout", "weights are"), [(row["layout"], row["licence"]) for row in layouts]),
    ]
    emit(lines, {"built_in": [trained, *random], "layouts": layouts}, json)
    return DONE


def _trained() -> tuple[dict[str, Any], list[str]]:
    """Return the row of the trained model of the package, and lines with its teachers and scores."""
    from unheard.config import to_json
    from unheard.errors import CheckpointError
    from unheard.weights.built_in import DEFAULT, trained_folder
    from unheard.weights.release import RELEASE, read_release

    try:
        release = read_release(trained_folder() / RELEASE)
    except (CheckpointError, ConfigError) as error:
        return {"name": DEFAULT, "note": f"not usable: {error}"}, []
    note = f"trained, {release.licence}; used where no model is given"
    lines = [f"  teacher: {each.name} ({each.supervision}; {each.licence})" for each in release.teachers]
    scores = [(f"  {each.task}", each.metric, f"{each.value:.3f}", each.protocol) for each in release.scores]
    lines += ["", *table((f"  scores of {DEFAULT}", "", "", ""), scores)] if scores else []
    return {"name": DEFAULT, "note": note, "release": to_json(release)}, lines


@verb("unheard convert m2d.pth -o models/m2d --layout m2d --name 80x608p16x16")
def convert(
    file: Path,
    /,
    *,
    out: Out,
    layout: Annotated[str, Parameter(help="Layout of the file: msm-mae, m2d, maskspec, audiomae or matpac.")],
    options: Annotated[ConvertOptions, Flat] = ConvertOptions(),
    settings: Settings = (),
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Convert a published checkpoint to a model folder, without executing code from the file.

    Parameters
    ----------
    file
        The published .pth or .safetensors.
    """
    from unheard import api

    made = api.convert(file, out, layout, settings=settings, **vars(options), overwrite=overwrite)
    origin, labels = made.provenance, made.labels
    values = {
        "out": named(out),
        "licence": origin.licence,
        "notes": list(origin.notes),
        "encoder_only": origin.encoder_only,
    }
    values["classes"] = list(labels)
    lines = [
        f"model folder: {named(out)}",
        f"licence of the weights: {origin.licence or 'unknown'}",
        *(f"note: {text}" for text in origin.notes),
    ]
    if labels and options.classes is None:
        lines.append(f"note: the file has no names for its {len(labels)} classes; give them with --classes")
    emit(lines, values, json)
    return DONE
