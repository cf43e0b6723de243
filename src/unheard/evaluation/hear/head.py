"""The shallow classifier on embeddings, and its grid of hyper-parameters (heareval 2021.1.3)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.errors import DataError
from unheard.evaluation.hear.task_folder import Task

SEED = 42  # heareval's, of grid order, weights and dropout
GRID_POINTS = 8  # heareval's: how many points of the shuffled grid are tried
INITIALIZATIONS = {"xavier_uniform_": nn.init.xavier_uniform_, "xavier_normal_": nn.init.xavier_normal_}
EPSILON = 1e-5  # torch's and heareval's default of BatchNorm1d
RARELY_CHECKED = "dcase2016_task2"  # heareval validates this task every 10 epochs


@dataclass(frozen=True)
class HyperParams:
    """Hyper-parameters of one fit; the defaults are in heareval's default grid.

    Parameters
    ----------
    hidden_layers, hidden_dim : int
    dropout, lr : float
    patience : int
        Validations without improvement after which a fit ends.
    max_epochs, check_val_every_n_epoch, batch_size : int
    initialization : str
        One of `INITIALIZATIONS`, how weights are drawn.
    """

    batch_size: int = 1024
    check_val_every_n_epoch: int = 3
    dropout: float = 0.1
    hidden_dim: int = 1024
    hidden_layers: int = 1
    initialization: str = "xavier_uniform_"
    lr: float = 1e-3
    max_epochs: int = 500
    patience: int = 20


DEFAULT_GRID: dict[str, list[Any]] = {
    "hidden_layers": [1, 2],
    "lr": [3.2e-3, 1e-3, 3.2e-4, 1e-4],
    "initialization": list(INITIALIZATIONS),
}
"""heareval's grid "default": 16 points."""


def grid(task: Task, points: int = GRID_POINTS) -> list[HyperParams]:
    """The points a task is tried with, in heareval's order: the product over sorted names, shuffled with `SEED`, the
    first few.

    Raises
    ------
    DataError
        When the task fixes a hyper-parameter that does not exist, to a value that it cannot have, or so that nothing is
        ever validated.
    """
    rare = {"check_val_every_n_epoch": [10]} if task.task_name == RARELY_CHECKED else {}
    values: Mapping[str, list[Any]] = {**DEFAULT_GRID, **rare, **task.grid}
    known = {field.name for field in fields(HyperParams)}
    if unknown := sorted(set(values) - known):
        raise DataError(f"{task.name} fixes the hyper-parameter {unknown[0]}; known are {', '.join(sorted(known))}")
    for name, value in ((name, value) for name, given in values.items() for value in given):
        if wanted := _refused(name, value):
            raise DataError(f"{task.name} fixes {name} to {value!r}; it must be {wanted}")
    names = sorted(values)
    product = [
        replace(HyperParams(), **dict(zip(names, point, strict=True)))
        for point in itertools.product(*(values[name] for name in names))
    ]
    if never := [hyper for hyper in product if hyper.check_val_every_n_epoch > hyper.max_epochs]:
        every, most = never[0].check_val_every_n_epoch, never[0].max_epochs
        raise DataError(
            f"{task.name} fixes check_val_every_n_epoch {every} above max_epochs {most}; nothing would be validated"
        )
    random.Random(SEED).shuffle(product)
    return product[:points]


def _refused(name: str, value: object) -> str:
    """What a hyper-parameter must be, when a value cannot be it; nothing otherwise."""
    if name == "initialization":
        return "" if value in list(INITIALIZATIONS) else " or ".join(INITIALIZATIONS)
    if name == "dropout":
        return "" if isinstance(value, int | float) and 0 <= value < 1 else "a number from 0 to below 1"
    if name == "lr":
        return "" if isinstance(value, int | float) and 0 < value < math.inf else "a number above 0"
    least = 0 if name in ("hidden_layers", "patience") else 1
    return "" if isinstance(value, int) and value >= least else f"a whole number, at least {least}"


class Head(nn.Module):
    """hidden_layers times (Linear, BatchNorm1d, Dropout, ReLU), then Linear: embeddings (n, D) to logits (n, C).

    Weights are initialised as heareval does it: torch's default first, then Xavier's with gain 1 in the first layer and
    sqrt 2 later.

    Parameters
    ----------
    linear : type
        `nn.Linear`, as in heareval, or `OneDnnLinear`.
    """

    def __init__(self, size: int, labels: int, hyper: HyperParams, linear: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        hidden: list[nn.Module] = []
        for _ in range(hyper.hidden_layers):
            layer = _initialised(linear(size, hyper.hidden_dim), hyper, first=not hidden)
            hidden += [layer, nn.BatchNorm1d(hyper.hidden_dim, EPSILON), nn.Dropout(hyper.dropout), nn.ReLU()]
            size = hyper.hidden_dim
        self.hidden = nn.Sequential(*hidden)
        self.projection = _initialised(linear(size, labels), hyper, first=not hidden)

    def forward(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n C"]:
        """Return logits."""
        logits: Tensor = self.projection(self.hidden(x))
        return logits


def loss_of(logits: Float[Tensor, "n C"], y: Float[Tensor, "n C"], multilabel: bool) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over rows and labels, or cross-entropy of the one true label, by the operations that
    heareval calls.
    """
    return F.binary_cross_entropy_with_logits(logits, y) if multilabel else F.cross_entropy(logits, y.argmax(dim=1))


def _initialised(layer: nn.Linear, hyper: HyperParams, first: bool) -> nn.Linear:
    with torch.no_grad():
        INITIALIZATIONS[hyper.initialization](layer.weight, gain=nn.init.calculate_gain("linear" if first else "relu"))
    return layer
