"""Detection of leakage between splits: files with the same bytes, and keys that occur on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from unheard.audio.archives.members import byte_size, open_bytes
from unheard.data.class_sets import Index

FEW_CLIPS = 6  # no difference over fewer clips is significant
FEW_GROUPS = 10  # intervals over fewer groups are too narrow; our choice

Keys = Sequence[Any]


def content_of(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file's bytes; a path that occurs twice is read once."""
    found: dict[Path, str] = {}
    for path in paths:
        if path not in found:
            with open_bytes(path) as file:
                found[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return [found[path] for path in paths]


def shared_content(paths: Sequence[Path]) -> list[str | None]:
    """Return `content_of` for files whose size occurs more than once.

    The others cannot have duplicates, are not read, and get None.
    """
    times = Counter(sizes := [byte_size(path) for path in paths])
    common = [path for path, size in zip(paths, sizes, strict=True) if times[size] > 1]
    found = dict(zip(common, content_of(common), strict=True))
    return [found.get(path) for path in paths]


def on_both_sides(sides: Sequence[tuple[Index, Index]], keys: Keys) -> Bool[np.ndarray, " n"]:
    """Return the test clips of a table whose key is also that of a training clip of the same (train, test) pair.

    None is not a key.
    """
    found = np.zeros(len(keys), bool)
    for train, test in sides:
        train_keys = {keys[clip] for clip in train if keys[clip] is not None}
        found[[clip for clip in test if keys[clip] in train_keys]] = True
    return found


def few_groups(count: int) -> list[str]:
    """Return a warning when intervals over the tested groups are too narrow, or cannot be computed."""
    if count == 1:
        return ["only one group was tested, so no confidence interval can be computed"]
    return [f"only {count} groups were tested: intervals over so few are too narrow"] if count < FEW_GROUPS else []


def few_clips(count: int) -> list[str]:
    """Return a warning when intervals over the tested clips are too narrow, because there are few."""
    return [f"only {count} clips were tested: intervals over so few are too narrow"] if count < FEW_CLIPS else []


def not_in_map(names: Sequence[str]) -> list[str]:
    """Return a warning about classes `metrics.only_positive`."""
    text = f"{len(names)} classes are not part of mAP, because they are not annotated as absent in any test clip"
    return [f"{text}: {listed(names)}"] if names else []


def listed(names: Sequence[str], most: int = 8) -> str:
    """Join the first names, and give the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def same_as_others(paths: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Return the files with the same bytes as one of the others. Files of equal size are read, each of them once."""
    own, theirs = ({path: byte_size(path) for path in each} for each in (paths, others))
    near = [path for path, size in own.items() if size in set(theirs.values())]
    contents = set(content_of([path for path, size in theirs.items() if size in set(own.values())]))
    return [path for path, content in zip(near, content_of(near), strict=True) if content in contents]
