"""Cells of a table: times in seconds, and words that programs write for an empty cell."""

from __future__ import annotations

import math

from unheard.errors import DataError

EMPTY_WORDS = frozenset({"nan", "null", "n/a", "#n/a", "<na>", "nat"})
"""What programs write for an empty cell, in lower case."""


def read_seconds(text: str, where: str) -> float | None:
    """Read a time in seconds; None for an empty cell.

    Raises
    ------
    DataError
        When the text is no number of at least 0; ``where`` names the cell.
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{where} is {text.strip()!r}; give seconds, a number of at least 0")
    return value


def refuse_reversed(start: float | None, end: float | None, where: str) -> None:
    """Refuse a part that ends where it starts, or before.

    Raises
    ------
    DataError
        With both times.
    """
    if end is not None and end <= (start or 0.0):
        raise DataError(
            f"{where} ends at {end:g} s, which is not after its start at {start or 0.0:g} s; exchange or correct the"
            " times"
        )


def refuse_empty_word(text: str, where: str) -> None:
    """Refuse a cell with a word that programs write for an empty one.

    Raises
    ------
    DataError
        When one of the names in the cell, which are joined by ``|``, is such a word.
    """
    if any(name.strip().lower() in EMPTY_WORDS for name in text.split("|")):
        raise DataError(
            f"{where} is {text!r}, which programs write for an empty cell; empty the cell, or give another name"
        )
