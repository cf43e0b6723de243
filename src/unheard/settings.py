"""Settings of a configuration with their values, accepted values and meanings.

The meaning of a setting is the documentation string under its field, its accepted values are those of its type.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

PARAMETER = re.compile(r"^(\w+)\n((?:    .+\n?)+)", re.MULTILINE)
"""Name and text of a parameter in a docstring of NumPy style."""
BOUNDS = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}


@dataclass(frozen=True)
class Setting:
    """One setting of a configuration."""

    name: str
    """Dotted name, such as ``model.size``."""
    value: Any
    """Its value, as JSON has it."""
    default: Any
    """Default of the dataclass, as JSON has it; None also when there is none."""
    accepted: str
    """Accepted values, such as ``whole number (>= 1)``."""
    meaning: str
    """What the setting does."""

    @property
    def given(self) -> str:
        """The setting as ``--set`` takes it, such as ``model.patch_size=16x16``."""
        if (
            isinstance(self.value, list)
            and len(self.value) == 2
            and all(type(each) is int and each >= 0 for each in self.value)
        ):
            return f"{self.name}={self.value[0]}x{self.value[1]}"
        return f"{self.name}={self.value if isinstance(self.value, str) else json.dumps(self.value)}"


def settings_of(tree: Any) -> list[Setting]:
    """Return every setting of a configuration, in the order of its sections.

    Parameters
    ----------
    tree : dataclass
        A recipe for pre-training or for fine-tuning, or a section of one.
    """
    return list(_settings(tree, ""))


def options_of(options: Any, without: Sequence[str] = ()) -> list[Setting]:
    """Return the options of a verb that differ from their defaults, named as flags such as ``--watch-every``.

    Parameters
    ----------
    options : dataclass
        A class of `unheard.api.options` whose docstring describes its fields.
    without : sequence of str
        Fields that are left out.
    """
    hints, texts = get_type_hints(type(options)), dict(PARAMETER.findall(inspect.getdoc(options) or ""))
    return [
        Setting(
            f"--{field.name.replace('_', '-')}",
            value if isinstance(value, bool | int | float) else str(value),
            field.default,
            type_text(hints[field.name]).removesuffix(" or null"),
            " ".join(texts[field.name].split()),
        )
        for field in dataclasses.fields(options)
        if field.name not in without and (value := getattr(options, field.name)) != field.default
    ]


def _settings(section: Any, prefix: str) -> Iterator[Setting]:
    if isinstance(section, Mapping):
        for name, inner in section.items():
            yield from _settings(inner, f"{prefix}{name}.")
        return
    kind: Any = type(section)
    hints, texts = get_type_hints(kind, include_extras=True), meanings(kind)
    nested = []
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if inner := list(_sections(value, f"{prefix}{field.name}")):
            nested += inner
            continue
        default = None if field.default is dataclasses.MISSING else field.default
        yield Setting(
            f"{prefix}{field.name}",
            json.loads(json.dumps(value)),
            json.loads(json.dumps(default)),
            type_text(hints[field.name]),
            texts.get(field.name, ""),
        )
    for name, inner in nested:
        yield from _settings(inner, f"{name}.")


def _sections(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the sections in a value with their names: itself, or each of a list of sections."""
    if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
        yield name, value
    elif isinstance(value, tuple):
        yield from ((f"{name}.{number}", each) for number, each in enumerate(value) if dataclasses.is_dataclass(each))


@cache
def meanings(kind: type[Any]) -> dict[str, str]:
    """Return the documentation string under each field of a dataclass, those of its base first."""
    if base := next((each for each in kind.__bases__ if dataclasses.is_dataclass(each)), None):
        return meanings(base) | _own_meanings(kind)
    return _own_meanings(kind)


def _own_meanings(kind: type[Any]) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):  # no source file, such as in an interactive session
        return {}
    if not isinstance(body, ast.ClassDef) or body.name != kind.__name__:  # Python 3.13: other lines of the module
        return {}
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def type_text(hint: Any) -> str:
    """Return a type in words: names, choices and ranges."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [bound for each in arguments[1:] for bound in _bounds(each)]
        return " ".join([type_text(arguments[0]), *([f"({', '.join(bounds)})"] if bounds else [])])
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in arguments)
    if origin in (Union, UnionType):
        return " or ".join("null" if each is NoneType else type_text(each) for each in arguments)
    if origin is tuple:
        inner = [each for each in arguments if each is not Ellipsis]
        return f"list of {type_text(inner[0])}" if Ellipsis in arguments else " x ".join(map(type_text, inner))
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def _bounds(annotation: Any) -> Iterator[str]:
    for each in getattr(annotation, "metadata", [annotation]):
        for name, sign in BOUNDS.items():
            if type(each).__name__ == name:
                yield f"{sign} {getattr(each, name.lower()):g}"
