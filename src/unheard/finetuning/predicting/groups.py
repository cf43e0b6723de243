"""Files in groups that are computed together, whatever process computes them."""

from __future__ import annotations

from collections.abc import Sequence

from unheard.embedding.tables import absolute


def grouped(files: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return files in groups of a size; the last one may be smaller."""
    return [tuple(files[first : first + size]) for first in range(0, len(files), size)]


def group_key(group: tuple[str, ...]) -> str:
    """Return a text that identifies a group from any working directory."""
    return "\0".join(map(absolute, group))
