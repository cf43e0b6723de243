"""Cells of a table: times in seconds, and words for an empty cell."""

from __future__ import annotations

import math

from unheard.errors import DataError

EMPTY_WORDS = frozenset({"nan", "null", "n/a", "#n/a", "<na>", "nat"})
"""Words that programs write for an empty cell, in lower case."""


def read_seconds(text: str, where: str) -> float | None:
    """Read a time in seconds; None for an empty cell.

    Raises
    ------
    DataError
        When the text is not a number of at least 0; the message names the cell as ``where``.
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{where} is {text.strip()!r}; give a number of seconds of at least 0")
    return value


def refuse_reversed(start: float | None, end: float | None, where: str) -> None:
    """Refuse a part that does not end after its start.

    Raises
    ------
    DataError
        With both times in the message.
    """
    if end is not None and end <= (start or 0.0):
        raise DataError(
            f"{where} ends at {end:g} s, which is not after its start at {start or 0.0:g} s; swap or correct the times"
        )


def refuse_empty_word(text: str, where: str) -> None:
    """Refuse a cell with a word that programs write for an empty one.

    Raises
    ------
    DataError
        When one of the names in the cell, joined by ``|``, is such a word.
    """
    if any(name.strip().lower() in EMPTY_WORDS for name in text.split("|")):
        raise DataError(
            f"{where} is {text!r}, which programs write for an empty cell; empty the cell, or give another name"
        )
