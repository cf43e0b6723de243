"""Recipe files: programs of the user's own that define ``recipe()`` and may register objectives."""

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
    """A recipe file as it was when a run began."""

    path: str
    """Absolute."""
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> RecipeFile:
        """Take down where a file is and what it holds."""
        return cls(str(Path(path).resolve()), file_checksum(Path(path)))

    def run_again(self, run: Path, say: Callable[[str], None]) -> None:
        """Run the file of a run once more, so that the objectives it registers are known; print so with ``say`` first.

        Raises
        ------
        ConfigError
            When the file is missing, has changed or lies in the run folder, or running it fails.
        """
        path, name = Path(self.path), shown(self.path)
        if not path.is_file():
            raise ConfigError(
                f"the recipe file {name} of {run} is missing, and it defines an objective of this run; put it back"
                " there"
            )
        if path.resolve().is_relative_to(run.resolve()):
            raise ConfigError(
                f"the recipe file {name} lies in {run}, and nothing in a run folder is run as a program; start a"
                " new run"
            )
        if file_checksum(path) != self.sha256:
            raise ConfigError(
                f"the recipe file {name} has changed since {run} began, and it defines an objective of this run;"
                f" restore it, or start a new run with --init {run}"
            )
        say(f"the recipe {name} is a program, and is run")
        run_file(path)


def run_file(path: Path) -> Recipe:
    """Run a recipe file and return what its ``recipe()`` returns; the objectives that it registers are then known.

    Raises
    ------
    ConfigError
        When there is no such file, it cannot be run, or it defines no recipe.
    """
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
        raise ConfigError(
            f"{path} cannot be run as a recipe ({type(error).__name__}: {error}); correct it and try again"
        ) from error
    if not isinstance(made, Recipe):
        raise ConfigError(f"{path} must define recipe() returning an unheard.recipes.recipe.Recipe; got {made!r}")
    return made
