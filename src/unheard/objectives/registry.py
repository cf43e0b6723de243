"""Registry of objectives: name of a section of a recipe's ``objectives``, its configuration and how to build it.

    register("level", LevelConfig, lambda config, model, teacher: Level(config, model.decoder.embed_dim))

Objectives of the package and of a user's recipe file are registered by the same call, at the end of their file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedModel
from unheard.objectives.base import Objective
from unheard.objectives.teacher_schedules import TeacherConfig

Config = TypeVar("Config")
PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Registered:
    """An objective that a recipe can name."""

    config: type[Any]
    """Frozen dataclass of its section; its field ``weight`` is the weight in the sum of objectives."""
    build: Callable[[Any, MaskedModel, TeacherConfig], Objective]
    """Builds the objective from its section, the model and the settings of the EMA teacher."""
    teacher: bool
    """Whether it needs the predictor and the EMA teacher."""
    labels: bool
    """Whether it needs the labels of the corpus."""


REGISTERED: dict[str, Registered] = {}
"""Every registered objective, by name."""


def register(
    name: str,
    config: type[Config],
    build: Callable[[Config, MaskedModel, TeacherConfig], Objective],
    *,
    teacher: bool = False,
    labels: bool = False,
) -> None:
    """Add an objective that recipes can use. Its attribute `Objective.needs_decoder` states whether it needs the
    decoder.

    Parameters
    ----------
    name : str
        Name of its section, ``objectives.<name>``, and of its loss, ``loss/<name>``. A file that is executed again
        replaces its objective.
    config : type
        Frozen dataclass with a field ``weight``; at weight 0 the objective is not built.
    build : callable
        Takes the section, the masked model and the settings of the EMA teacher, and returns the objective.
    teacher : bool
        Whether it reads the predictor and the EMA teacher (``predicted`` and ``target`` of a pass).
    labels : bool
        Whether it reads the labels of the corpus (``labels`` and ``has_labels`` of a batch). Its configuration then has
        the field ``classes``, a tuple of names, which the run sets.

    Raises
    ------
    ConfigError
        When the name cannot be one of a section or belongs to the package, or the configuration lacks a field.
    """
    if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
        raise ConfigError(
            f"an objective cannot be named {name!r}; choose a name of letters, digits and _, such as my_objective"
        )
    if name in REGISTERED and _of_package(REGISTERED[name].config) and not _of_package(config):
        raise ConfigError(
            f"objectives.{name} is an objective of {PACKAGE}; choose another name for that of {config.__qualname__}"
        )
    fields = {field.name for field in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else set()
    if missing := {"weight", *(["classes"] if labels else [])} - fields:
        raise ConfigError(
            f"{config.__qualname__} must be a frozen dataclass with the field {', '.join(sorted(missing))}"
        )
    REGISTERED[name] = Registered(config, build, teacher, labels)


def name_of(section: object) -> str:
    """Return the name that the configuration of an objective is registered by.

    Raises
    ------
    ConfigError
        When it is not registered.
    """
    for name, entry in REGISTERED.items():
        if entry.config is type(section):
            return name
    raise ConfigError(
        f"{type(section).__qualname__} is not the configuration of an objective; add it with"
        " unheard.objectives.registry.register first"
    )


def _of_package(config: type[Any]) -> bool:
    return config.__module__.partition(".")[0] == PACKAGE
