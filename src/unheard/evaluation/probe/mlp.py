"""The MLP head of a probe: one hidden layer, with the number of steps selected on validation clips."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.data.class_sets import Index
from unheard.evaluation.probe.heads import Others, Table, Vectors, pca_project, standardise
from unheard.evaluation.probe.steps import Clips, Recipe, Rows, fit_predict

HIDDEN, BATCH, RATE, DECAY = 128, 256, 5e-4, 1e-2  # of the network and AdamW; our choice


def mlp(vectors: Vectors, clips: Clips) -> Table:
    """Return the class probabilities of the test clips from an MLP on the standardised vectors; see `fit_predict`."""

    def prepare(train: Index, other: Index) -> tuple[Tensor, Tensor]:
        rows, others = pca_project(*standardise(vectors[train], vectors[other]))
        return _floats(rows), _floats(others)

    return fit_predict(prepare, Recipe(_network, BATCH, RATE, DECAY), clips)


def _network(rows: Rows, classes: int) -> nn.Module:
    assert isinstance(rows, Tensor)
    return nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))


def _floats(rows: Others) -> Float[Tensor, "m D"]:
    return torch.from_numpy(rows.astype(np.float32))
