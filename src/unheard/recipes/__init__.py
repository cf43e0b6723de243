"""Recipes by name, one in each file. A Python file with a ``recipe()`` function is a recipe, too."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from unheard.errors import ConfigError
from unheard.recipes import audiomae, bat, clap_mini, distill, eat, m2d, mam_clap, maskspec, matpac, msm_mae, sslam
from unheard.recipes.file import RecipeFile, run_file
from unheard.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "msm-mae": msm_mae.recipe,
    **{name: partial(msm_mae.paper, name) for name in msm_mae.TABLE_1},
    "maskspec": maskspec.recipe,
    "audiomae": audiomae.recipe,
    "m2d": m2d.recipe,
    "m2d-short": m2d.short,
    "matpac": matpac.recipe,
    "matpac++": matpac.plus,
    "eat": eat.recipe,
    "eat-large": eat.large,
    "sslam": sslam.recipe,
    "bat": bat.recipe,
    "bat-small": bat.small,
    "mam-clap": mam_clap.clap,
    "sup-mam": mam_clap.supervised,
    "sup-mam-clap": mam_clap.both,
    "clap-mini": clap_mini.recipe,
    "distill": distill.recipe,
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name, or from a ``.py`` file that defines ``recipe()``.

    Raises
    ------
    ConfigError
        When there is no such recipe or file, or the file cannot be executed.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith(".py"):
        return run_file(Path(name))
    near = difflib.get_close_matches(name.lower(), RECIPES, n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"known recipes: {', '.join(RECIPES)}; or give a .py file with a recipe() function"
    )
    raise ConfigError(f"there is no recipe {name!r}; {hint}")


def recipe_file(name: str) -> RecipeFile | None:
    """Return the file that a recipe is read from; None for a built-in recipe."""
    return RecipeFile.of(name) if name not in RECIPES and name.endswith(".py") else None
