"""Tables of labels, and vectors in which these can be found, for the tests of probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels


@pytest.fixture(scope="session")
def table() -> Callable[..., Labels]:
    """Makes a table without files."""
    return _table


@pytest.fixture(scope="session")
def clouds() -> Callable[..., np.ndarray]:
    """Makes one cloud of points a class."""
    return _clouds


def _table(
    classes: list[list[int]] | list[int],
    split: Sequence[str] | None = None,
    fold: str | None = None,
    group: list[str] | None = None,
) -> Labels:
    rows = [entry if isinstance(entry, list) else [entry] for entry in classes]
    target = np.array([[int(k in row) for k in range(max(map(max, filter(None, rows))) + 1)] for row in rows])
    n, sides = len(rows), {"r": "train", "v": "valid", "e": "test"}
    names = [f"class{k}" for k in range(target.shape[1])]
    return Labels(
        paths=[Path(f"{i}.wav") for i in range(n)],
        classes=names,
        target=ClassSets.from_dense(target),
        multilabel=bool((target.sum(axis=1) != 1).any()),
        split=[sides.get(side, side) for side in split] if split else [""] * n,
        fold=list(fold) if fold else [""] * n,
        group=group or [""] * n,
        start=[None] * n,
        end=[None] * n,
    )


def _clouds(classes: list[int], distance: float, seed: int = 0, dimensions: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return distance * rng.standard_normal((max(classes) + 1, dimensions))[classes] + rng.standard_normal(
        (len(classes), dimensions)
    )
