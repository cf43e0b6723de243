"""Sounds that are on both sides of a split: files with the same bytes, and keys that occur on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from unheard.data.class_sets import Index

FEW_GROUPS = 10  # below which intervals over groups are too narrow; our choice

Keys = Sequence[Any]


def content_of(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file's bytes; a file that is named twice is read once."""
    found: dict[Path, str] = {}
    for path in paths:
        if path not in found:
            with path.open("rb") as file:
                found[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return [found[path] for path in paths]


def shared_content(paths: Sequence[Path]) -> list[str | None]:
    """`content_of` for files whose size occurs more than once; None for the others, which are not read: nothing can be
    their copy.
    """
    times = Counter(sizes := [path.stat().st_size for path in paths])
    common = [path for path, size in zip(paths, sizes, strict=True) if times[size] > 1]
    found = dict(zip(common, content_of(common), strict=True))
    return [found.get(path) for path in paths]


def on_both_sides(sides: Sequence[tuple[Index, Index]], keys: Keys) -> Bool[np.ndarray, " n"]:
    """Clips of a table that are asked about while their key is also that of a clip taught on the same (taught, asked);
    None is no key.
    """
    found = np.zeros(len(keys), bool)
    for seen, test in sides:
        taught = {keys[clip] for clip in seen if keys[clip] is not None}
        found[[clip for clip in test if keys[clip] in taught]] = True
    return found


def few_groups(count: int) -> list[str]:
    """A warning where so few groups were tested that intervals over them say little."""
    return [f"only {count} groups were tested: intervals over so few are too narrow"] if count < FEW_GROUPS else []
