"""Recipe files: Python files of the user that define ``recipe()`` and may register objectives."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import ConfigError, UnheardError, shown
from unheard.files import file_checksum
from unheard.recipes.recipe import Recipe


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file and its hash at the start of a run."""

    path: str
    """Absolute path."""
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> RecipeFile:
        """Return the absolute path and the hash of a file."""
        return cls(str(Path(path).resolve()), file_checksum(Path(path)))

    def run_again(self, run: Path, say: Callable[[str], None]) -> None:
        """Execute the recipe file of a run again, so that its objectives are registered; call ``say`` with a message
        first.

        Raises
        ------
        ConfigError
            When the file is missing, has changed or is inside the run folder, or executing it fails.
        """
        path, name = Path(self.path), shown(self.path)
        if not path.is_file():
            raise ConfigError(
                f"the recipe file {name} of {run} is missing, and it defines an objective of this run; restore it"
                " at that path"
            )
        if path.resolve().is_relative_to(run.resolve()):
            raise ConfigError(
                f"the recipe file {name} is inside {run}, and files of a run folder are never executed; start a new run"
            )
        if file_checksum(path) != self.sha256:
            raise ConfigError(
                f"the recipe file {name} has changed since {run} began, and it defines an objective of this run;"
                f" restore it, or start a new run with --init {run}"
            )
        say(f"executing the recipe file {name}")
        run_file(path)


def refuse_code(recipe: str) -> None:
    """Refuse a recipe that is a Python file.

    Raises
    ------
    ConfigError
        When it is one.
    """
    if recipe.endswith(".py"):
        raise ConfigError(f"--no-code forbids executing {recipe}; give a name listed by unheard recipes")


def run_file(path: Path) -> Recipe:
    """Execute a recipe file and return the result of its ``recipe()``; its objectives are then registered.

    Raises
    ------
    ConfigError
        When there is no such file, it cannot be executed, or it defines no recipe.
    """
    spec = importlib.util.spec_from_file_location(f"unheard_recipe_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"there is no recipe file {path}; give the path of a .py file with a recipe() function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module in which they are defined
    try:
        spec.loader.exec_module(module)
        made = module.recipe() if callable(getattr(module, "recipe", None)) else None
    except UnheardError:
        raise
    except Exception as error:  # the user's code can raise anything
        raise ConfigError(
            f"{path} cannot be executed as a recipe ({type(error).__name__}: {error}); correct it and try again"
        ) from error
    if not isinstance(made, Recipe):
        raise ConfigError(f"{path} must define recipe() returning an unheard.recipes.recipe.Recipe; got {made!r}")
    return made
