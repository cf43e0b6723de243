"""The head of X-ARES: layer normalisation and one linear layer, trained with Adam on frozen embeddings."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.evaluation.head_training import HeadTrainer, Loss
from unheard.evaluation.xares.metrics import Predicted, score
from unheard.evaluation.xares.rows import Rows
from unheard.evaluation.xares.tasks import XaresTask

LEARNING_RATE, MIN_RATE = 1e-3, 1e-4


class Head(nn.Module):
    """LayerNorm(D) and Linear(D, C); X-ARES calls it MLP."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.ln, self.fc = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n C"]:
        """Return logits."""
        found: Tensor = self.fc(self.ln(x))
        return found


@dataclass
class Fit:
    """A trained head.

    Parameters
    ----------
    best_epoch : int
        Counted from 1.
    losses, rates : list of float
        Loss and learning rate of each step.
    valid_scores, valid_losses : list of float
        Of each epoch, on the validation split.
    predicted : list of tuple
        Logits and targets of each test batch.
    head : nn.Module or None
        The head with the weights of the best epoch.
    """

    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    valid_scores: list[float] = field(default_factory=list)
    valid_losses: list[float] = field(default_factory=list)
    predicted: Predicted = ()
    head: nn.Module | None = None


@dataclass(frozen=True)
class Splits:
    """Rows for training, validation and test."""

    train: Rows
    valid: Rows
    test: Rows


def rate_of(epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch, counted from 0: half a cosine from 1e-3 that does not reach 1e-4."""
    return MIN_RATE + 0.5 * (LEARNING_RATE - MIN_RATE) * (1 + math.cos(math.pi * epoch / epochs))


def loss_of(task: XaresTask) -> Loss:
    """Return the loss of a task: cross-entropy, or binary cross-entropy of every class and frame."""
    if task.kind == "single":
        return F.cross_entropy
    weight = torch.tensor(float(task.positive_weight))
    return lambda logits, y: F.binary_cross_entropy_with_logits(logits, y.float(), pos_weight=weight)


def train(
    task: XaresTask, head: nn.Module, splits: Splits, order: Callable[[int], Sequence[int]], hop: float = 0.0
) -> Fit:
    """Train a head for all epochs; keep the weights of the strictly best validation score.

    Parameters
    ----------
    head : nn.Module
        Trained in place.
    order : callable
        Rows of an epoch, counted from 0, in the order of training.
    hop : float
        Seconds between frames, for event tasks.
    """
    loss, fit = loss_of(task), Fit()
    trainer = HeadTrainer(head, torch.optim.Adam(head.parameters(), lr=LEARNING_RATE), loss)
    best: dict[str, Tensor] = {}
    for epoch in range(task.epochs):
        rate = rate_of(epoch, task.epochs)
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        rows = order(epoch)
        for first in range(0, len(rows), task.batch):
            fit.losses.append(float(trainer.step(*splits.train.batch(rows[first : first + task.batch]))))
            fit.rates.append(rate)
        predicted = predict(head, splits.valid.batches(task.batch))
        fit.valid_losses.append(mean_loss(loss, predicted))
        fit.valid_scores.append(score(task, predicted, hop))
        if epoch == 0 or fit.valid_scores[-1] > max(fit.valid_scores[:-1]):
            fit.best_epoch, best = epoch + 1, copy.deepcopy(head.state_dict())
    head.load_state_dict(best)
    fit.predicted, fit.head = predict(head, splits.test.batches(task.batch)), head
    return fit


@torch.no_grad()
def predict(head: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return logits and targets of each batch."""
    head.eval()
    return [(head(x), y) for x, y in batches]


def mean_loss(loss: Loss, predicted: Predicted) -> float:
    """Return the mean of the losses of the batches, weighted by their length."""
    losses = [(float(loss(logits, y)), len(logits)) for logits, y in predicted]
    return sum(value * count for value, count in losses) / sum(count for _, count in losses)


def skip_draws(epochs: int) -> None:
    """Take the random numbers that the data loaders of the reference take in a fit, so that the next head is equal."""
    for _ in range(2 * epochs + 1):
        torch.empty((), dtype=torch.int64).random_()
