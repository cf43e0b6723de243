"""Frozen dataclasses to JSON and back, and typed overrides by dotted name.

Every configuration is a tree of frozen dataclasses with a documentation string under each field. pydantic checks types
and ranges. Errors name the field, its value and the accepted values.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from unheard.errors import ConfigError

Tree = TypeVar("Tree")  # a frozen dataclass

KIND_FIELD = "kind"
"""The field that selects one of several dataclasses of a section."""

# Ranges of fields. They are checked when a configuration is read or overridden, that is before every run.
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class OpenSection(ABC):
    """A section whose fields are looked up in an extensible table, not in a dataclass. Its value is a mapping."""

    @classmethod
    @abstractmethod
    def types(cls) -> dict[str, Any]:
        """Return the type of each field, by name."""


def to_json(tree: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, lists, numbers and strings."""
    plain: dict[str, Any] = json.loads(json.dumps(tree, default=_as_dictionary))
    return plain


def from_json(kind: type[Tree], values: object) -> Tree:
    """Build a configuration of type ``kind`` from a JSON object; missing fields take their defaults.

    Raises
    ------
    ConfigError
        On an unknown field (with the nearest real one), a value of the wrong type, or anything but a JSON object.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{kind.__name__} must be a JSON object of settings; got {values!r}")
    _refuse_unknown(kind, values, "")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        path, problem = [str(part) for part in first["loc"]], first["msg"]
        if first["type"] == "missing":  # the input is then the object that lacks the value
            problem = (
                f"value {path.pop()} is missing (counted from 0)"
                if isinstance(first["loc"][-1], int)
                else f"{path.pop()} is missing"
            )
        raise ConfigError(f"{'.'.join(path)}: got {first['input']!r}; {problem}") from None


def override(tree: Tree, settings: Iterable[str]) -> Tree:
    """Apply ``section.key=value`` settings to a configuration.

    A value that parses as JSON is JSON, any other one is text; so is a number where a field takes text. ``16x4`` is a
    pair of numbers, ``null`` removes a value.
    A number selects an entry of a list of sections, counted from 0.
    Setting the ``kind`` of a section resets it to the defaults of that kind.

    Raises
    ------
    ConfigError
        When a setting has no ``=``, names no field (the nearest one is suggested), or its value does not fit.
    """
    values = to_json(tree)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(
                f"a setting has the form section.key=value, for example training.batch_size=64; got {setting!r}"
            )
        names = _leaves(values)
        if name not in names:
            raise ConfigError(_unknown(name, names))
        *path, last = name.split(".")
        section: Any = values
        hint: Any = type(tree)
        for part in path:
            inner = _element(hint) if isinstance(section, list) else _types(_of_kind(hint, section))[part]
            section, hint = section[int(part) if isinstance(section, list) else part], inner
        wanted = _types(_of_kind(hint, section)).get(last)
        section[last] = _with_defaults(_parse(name, text, wanted), wanted)
        chosen = _of_kind(hint, section)
        if last == KIND_FIELD and chosen is not hint:
            section.clear()
            section.update(to_json(chosen()))
    return from_json(type(tree), values)


def names(tree: Any) -> list[str]:
    """Return every dotted name of a configuration."""
    return _leaves(to_json(tree))


def _parse(name: str, text: str, hint: Any) -> Any:
    """Return the value of a setting. A number is text where the field takes text and no number, such as a name."""
    value = _parse_json(name, text)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    accepted = (NoneType, *(kind for kind in kinds if isinstance(kind, type)))
    return text if str in kinds and not isinstance(value, accepted) else value


def _parse_json(name: str, text: str) -> Any:
    pair = re.fullmatch(r"(\d+)x(\d+)", text)
    if pair:
        return [int(pair[1]), int(pair[2])]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.startswith(("[", "{")):
            raise ConfigError(
                f"{name}: {text!r} is not valid JSON ({error}); names and texts need double quotes, as in"
                ' [{"name": "DIR"}]'
            ) from None
        return text


def _as_dictionary(section: Any) -> dict[str, Any]:
    if isinstance(section, Mapping):
        return dict(section)
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}


def _is_open(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, OpenSection)


def _types(kind: Any) -> dict[str, Any]:
    """Return the type of each field of a section."""
    return kind.types() if _is_open(kind) else get_type_hints(kind)


def _refuse_unknown(kind: Any, values: Mapping[str, Any], prefix: str) -> None:
    types = _types(kind)
    for key, value in values.items():
        if key not in types:
            raise ConfigError(_unknown(f"{prefix}{key}", [f"{prefix}{name}" for name in types]))
        section = _of_kind(types[key], value)
        if (dataclasses.is_dataclass(section) or _is_open(section)) and isinstance(value, Mapping):
            _refuse_unknown(section, value, f"{prefix}{key}.")
        for number, entry in enumerate(value if isinstance(value, list | tuple) else []):
            if dataclasses.is_dataclass(_element(section)) and isinstance(entry, Mapping):
                _refuse_unknown(_element(section), entry, f"{prefix}{key}.{number}.")


def _of_kind(hint: Any, value: Any) -> Any:
    """Return the dataclass of a section that ``value`` selects, or the first; a type with no choice as it is."""
    kinds = {getattr(option, KIND_FIELD): option for option in get_args(hint) if hasattr(option, KIND_FIELD)}
    if get_origin(hint) not in (Union, UnionType) or not kinds or not isinstance(value, Mapping):
        return hint
    name = value.get(KIND_FIELD, next(iter(kinds)))
    if name not in kinds:
        near = difflib.get_close_matches(str(name), kinds, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(kinds)}"
        raise ConfigError(f"there is no kind {name!r}; {hint}")
    return kinds[name]


def _with_defaults(value: Any, hint: Any) -> Any:
    """Complete the entries of a list of sections, so that later settings can name each of their fields."""
    kind = _element(hint)
    if not dataclasses.is_dataclass(kind) or not isinstance(value, list):
        return value
    made: Any = kind
    return [{**to_json(made()), **entry} if isinstance(entry, dict) else entry for entry in value]


def _element(hint: Any) -> Any:
    """Return the type of the entries of a tuple of any length, else None."""
    return get_args(hint)[0] if get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,) else None


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    leaves: list[str] = []
    for key, value in values.items():
        leaves += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
        for number, entry in enumerate(value if isinstance(value, list) else []):
            leaves += _leaves(entry, f"{prefix}{key}.{number}.") if isinstance(entry, dict) else []
    return leaves


def _unknown(name: str, known: list[str]) -> str:
    by_end = {full.rsplit(".", 1)[-1]: full for full in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or [
        by_end[end] for end in difflib.get_close_matches(name.rsplit(".", 1)[-1], by_end, n=1)
    ]
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"the sections are {', '.join(sorted({full.split('.')[0] for full in known}))}"
    )
    return f"there is no setting {name!r}; {hint}"
