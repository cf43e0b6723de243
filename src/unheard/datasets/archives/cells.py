"""Cells of a label table from the values of a JSON object or of a row of a parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unheard.errors import DataError

LABELS = ("label", "labels")
"""Fields with labels: one, or a list of several."""

CAPTIONS = ("caption", "captions", "text")
"""Fields with a description; the first one that is there is used, and of a list its first text."""

Names = Mapping[str, Sequence[str]]
"""Names of the classes that whole numbers stand for, by field."""


def label_cell(record: Mapping[str, Any], fields: Sequence[str], names: Names) -> str | None:
    """Return the labels of a record, joined by ``|``; None if no field has a value, empty for an empty list.

    Parameters
    ----------
    fields : sequence of str
        Those with labels.
    names : mapping
        See `Names`.

    Raises
    ------
    DataError
        When a value is neither a text, a whole number, nor a list of these, or a name in a list holds ``|``.
    """
    found: list[str] | None = None
    for field in fields:
        value = record.get(field)
        if value is None or value == "":
            continue
        items = value if isinstance(value, list) else [value]
        found = found or []
        for item in items:
            text = _label(item, names.get(field, ()), field)
            if isinstance(value, list) and "|" in text:
                raise DataError(f"{field} holds the name {text!r}, in which | separates labels; rename it")
            found.append(text)
    return None if found is None else "|".join(dict.fromkeys(found))


def caption_cell(record: Mapping[str, Any]) -> str:
    """Return the description in a record as one line; empty if there is none.

    Raises
    ------
    DataError
        When it is neither a text nor a list of texts.
    """
    for field in CAPTIONS:
        value = record.get(field)
        texts = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
        if not all(isinstance(each, str) for each in texts):
            raise DataError(f"{field} is not a text; give a sentence, or a list of sentences")
        if text := next((" ".join(each.split()) for each in texts if each.strip()), ""):
            return text
    return ""


def _label(item: Any, names: Sequence[str], field: str) -> str:
    if isinstance(item, str):
        return item.strip()
    if not isinstance(item, int) or isinstance(item, bool):
        raise DataError(f"{field} holds {item!r}; give a text, a whole number, or a list of these")
    if names and not 0 <= item < len(names):
        raise DataError(f"{field} holds the number {item}, but there are {len(names)} names of classes")
    return names[item] if names else str(item)
