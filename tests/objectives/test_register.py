"""Registration of objectives: names that are refused, and the sections of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from unheard.errors import ConfigError
from unheard.objectives.base import Objective
from unheard.objectives.registry import REGISTERED, register
from unheard.recipes.recipe import ObjectivesConfig


def forget() -> None:
    """Leave the objectives of the package only, as in a new process."""
    for name in [name for name, entry in REGISTERED.items() if not entry.config.__module__.startswith("unheard.")]:
        del REGISTERED[name]


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    forget()
    yield
    forget()


@dataclass(frozen=True)
class Other:
    weight: float = 0.0


@dataclass(frozen=True)
class Weightless:
    classes: tuple[str, ...] = ()


def nothing(config: Any, model: Any, teacher: Any) -> Objective:
    raise AssertionError("built")


@pytest.mark.parametrize(
    ("name", "config", "labels", "message"),
    [
        ("distill", Other, False, "objectives.distill is an objective of unheard; choose another name"),
        ("my.own", Other, False, "cannot be named 'my.own'"),
        ("items", Other, False, "cannot be named 'items'"),
        ("mine", Weightless, False, "Weightless must be a frozen dataclass with the field weight"),
        ("mine", int, False, "must be a frozen dataclass with the field weight"),
        ("mine", Other, True, "must be a frozen dataclass with the field classes"),
    ],
)
def test_what_cannot_be_registered_is_named(name: str, config: type, labels: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        register(name, config, nothing, labels=labels)


def test_sections_are_those_that_are_registered() -> None:
    with pytest.raises(ConfigError, match="Other is not the configuration of an objective"):
        ObjectivesConfig(Other())
    register("mine", Other, nothing)
    with pytest.raises(ConfigError, match="two sections"):
        ObjectivesConfig(Other(), Other(1.0))
    made = ObjectivesConfig(Other(0.5))
    assert (
        made.mine == Other(0.5)
        and list(made) == [*ObjectivesConfig(), "mine"]
        and hash(made) != hash(ObjectivesConfig())
    )
    assert made.updated(Other(0.0)).active().keys() == ObjectivesConfig().active().keys()
    with pytest.raises(AttributeError, match="cannot assign"):
        made.mine = Other()  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no section objectives.yours"):
        _ = made.yours
    assert set(REGISTERED) == {*ObjectivesConfig(), "mine"}
