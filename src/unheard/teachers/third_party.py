"""Import and calls of third-party code; its exceptions are converted to messages of one line."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from unheard.errors import ConfigError, UnheardError

Made = TypeVar("Made")


def import_third_party(name: str) -> Any:
    """Import a module by name.

    Raises
    ------
    ConfigError
        When it cannot be imported.
    """
    if not name:
        raise ConfigError("the module name is missing; write hear:MODULE or xares:MODULE")

    def bring() -> Any:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, and imports another one that does not
            raise ConfigError(
                f"the module {name} cannot be imported ({error}); install it, or put its folder on PYTHONPATH"
            ) from error

    return call_third_party(bring, f"importing {name}")


def call_third_party(call: Callable[[], Made], what: str) -> Made:
    """Return the result of a call.

    Raises
    ------
    ConfigError
        When the call raises anything other than an `UnheardError`.
    """
    try:
        return call()
    except UnheardError:
        raise
    except Exception as error:
        raise ConfigError(f"{what} failed with {type(error).__name__}: {' '.join(str(error).split())}") from error
