"""Recipes by name. Each lives in a file of its own; a Python file with a ``recipe()`` function is one, too."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from unheard.errors import ConfigError, UnheardError
from unheard.recipes import audiomae, clap_mini, m2d, mam_clap, maskspec, matpac, msm_mae
from unheard.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "msm-mae": msm_mae.recipe,
    **{name: partial(msm_mae.paper, name) for name in msm_mae.TABLE_1},
    "maskspec": maskspec.recipe,
    "audiomae": audiomae.recipe,
    "m2d": m2d.recipe,
    "matpac": matpac.recipe,
    "matpac++": matpac.plus,
    "mam-clap": mam_clap.clap,
    "sup-mam": mam_clap.supervised,
    "sup-mam-clap": mam_clap.both,
    "clap-mini": clap_mini.recipe,
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or from a ``.py`` file that defines ``recipe()``.

    Raises
    ------
    ConfigError
        When there is no such recipe or file, or the file cannot be run.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith(".py"):
        return _from_file(Path(name))
    near = difflib.get_close_matches(name.lower(), RECIPES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known recipes: {', '.join(RECIPES)}; or give a .py file with a recipe() function"
    raise ConfigError(f"there is no recipe {name!r}; {hint}")


def _from_file(path: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location(f"unheard_recipe_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"there is no recipe file {path}; give the path of a .py file with a recipe() function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module that they are defined in
    try:
        spec.loader.exec_module(module)
        made = module.recipe() if callable(getattr(module, "recipe", None)) else None
    except UnheardError:
        raise
    except Exception as error:  # code of the user's own can go wrong in any way
        raise ConfigError(f"{path} cannot be run as a recipe ({type(error).__name__}: {error}); correct it and try again") from error
    if not isinstance(made, Recipe):
        raise ConfigError(f"{path} must define recipe() returning an unheard.recipes.recipe.Recipe; got {made!r}")
    return made
