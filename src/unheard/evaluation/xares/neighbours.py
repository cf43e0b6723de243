"""Classification by the ten nearest neighbours, as X-ARES normalises the training vectors, and with unit rows."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unheard.errors import DataError

NEIGHBOURS, TEMPERATURE = 10, 0.07
QUERIES = 512  # rows that are compared at once; our choice

Normalised = Literal["columns", "rows"]
"""Axis of the training matrix whose Euclidean norm is 1. The reference has columns: each dimension over all rows."""


def votes(
    train: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    test: Float[Tensor, "m D"],
    classes: int,
    normalised: Normalised = "columns",
) -> Float[Tensor, "m C"]:
    """Return the weight of each class among the nearest neighbours of each row.

    Weights are the softmax of similarity / 0.07 over the neighbours.

    Raises
    ------
    DataError
        When there are fewer than ten training rows.
    """
    if len(train) < NEIGHBOURS:
        raise DataError(f"nearest neighbours need at least {NEIGHBOURS} training rows; there are {len(train)}")
    stored, found = F.normalize(train, dim=0 if normalised == "columns" else 1), []
    for queries in torch.split(F.normalize(test, dim=1), QUERIES):
        nearest = (queries @ stored.T).topk(NEIGHBOURS, dim=1)
        weights = (nearest.values / TEMPERATURE).softmax(dim=1)
        found.append(torch.zeros(len(queries), classes).scatter_add_(1, labels[nearest.indices], weights))
    return torch.cat(found)
