"""Pre-training: a new run, and the continuation of an interrupted one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.config import override
from unheard.errors import ConfigError
from unheard.recipes import find_recipe, recipe_file
from unheard.recipes.recipe import Recipe

if TYPE_CHECKING:
    from unheard.data.store import Store
    from unheard.training.callbacks import Callbacks, Run


def pretrain(
    data: str | Path,
    out: str | Path,
    recipe: str | Recipe | None = None,
    settings: Iterable[str] = (),
    *,
    init: str | Path | None = None,
    minutes: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> Run:
    """Pre-train a recipe on a folder of audio, a CSV with a ``path`` column, a manifest or a packed corpus.

    Parameters
    ----------
    recipe : str or Recipe, optional
        A name listed by ``unheard recipes``, a ``.py`` file with a ``recipe()`` function, or a recipe. Default:
        ``msm-mae``; with ``init``, the recipe of that model, without objectives that need teachers, labels or captions.
    settings : iterable of str
        ``section.key=value``, such as ``training.steps=2000`` or ``model.size=tiny``.
    init : path, optional
        Model, run or built-in name with the initial weights.
    minutes : float, optional
        Duration of the training; the number of steps is computed from the measured time of a step.

    Returns
    -------
    Run
        The folder ``out``, the steps done and the steps of the whole run.

    Examples
    --------
    >>> import unheard
    >>> unheard.pretrain("my_audio/", "runs/first", settings=["model.size=tiny"])  # doctest: +SKIP
    """
    from unheard.training import pretrain as training
    from unheard.training.initial import continued_recipe

    settings = list(settings)
    if minutes is not None:
        _refuse_duration(minutes, settings)
    watched = _watched(report)
    if recipe is None and init is not None:
        recipe, left_out = continued_recipe(init)
        watched.log(f"recipe     that of {init}{', without ' * bool(left_out)}{', '.join(left_out)}")
    recipe = recipe or "msm-mae"
    chosen = override(find_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    _refuse_inactive(chosen, settings)
    code = recipe_file(recipe) if isinstance(recipe, str) else None
    origin = training.Origin(init, minutes, code)
    return training.pretrain(data, out, chosen, origin=origin, device=device, overwrite=overwrite, report=watched)


def _refuse_duration(minutes: float, settings: Sequence[str]) -> None:
    """Refuse minutes that are not positive, or that a setting contradicts."""
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes must be a positive number; got {minutes}")
    if given := [each for each in settings if each.startswith(("training.steps=", "training.epochs="))]:
        raise ConfigError(f"minutes excludes {given[0]}: the steps are computed from the minutes; give only one")


def _refuse_inactive(recipe: Recipe, settings: Sequence[str]) -> None:
    """Refuse a setting of an objective that is not trained: it would change nothing."""
    for given in settings:
        section, _, rest = given.partition(".")
        name, _, field = rest.partition("=")[0].partition(".")
        if section == "objectives" and field not in ("", "weight") and name not in recipe.objectives.active():
            raise ConfigError(
                f"{given} changes nothing, because the weight of objectives.{name} is 0; also set"
                f" objectives.{name}.weight=1, or leave the setting out"
            )


def resume(
    out: str | Path, *, data: str | Path | None = None, skip_bad_batches: int | None = None, no_code: bool = False,
    device: str = "auto", report: Callbacks | None = None,
) -> Run:  # fmt: skip
    """Continue an interrupted run; the result is the same as without the interruption.

    Parameters
    ----------
    data : path, optional
        New path of the corpus, if it has moved.
    """
    from unheard.training import resume as training

    return training.resume(
        out, data=data, skip_bad_batches=skip_bad_batches, no_code=no_code, device=device, report=_watched(report)
    )


def _watched(report: Callbacks | None) -> Callbacks:
    """Return the callbacks of the caller, extended to write the figures and measurements of a finished run."""
    from unheard.training.callbacks import Callbacks
    from unheard.view.run import finish

    given = report or Callbacks()

    def finished(run: Path, store: Store) -> None:
        given.on_end(run, store)
        finish(run, store, given.log)

    return replace(given, on_end=finished)
