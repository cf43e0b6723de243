"""One fit of a `Head`, step by step and draw by draw as heareval 2021.1.3 does it.

Training rows are never shuffled there, so every epoch sees the same batches. Random numbers come from torch's global
generator, because dropout has no other; `heareval` seeds it and keeps it to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.errors import DataError
from unheard.evaluation.head_training import HeadTrainer
from unheard.evaluation.hear.events import Postprocessing
from unheard.evaluation.hear.head import Head, HyperParams, loss_of
from unheard.evaluation.hear.rows import Rows, score_and_tune
from unheard.evaluation.hear.scores import SCORES
from unheard.evaluation.hear.task_folder import Task
from unheard.model.classification import probabilities
from unheard.training.early_stopping import EarlyStopping

FLOAT64_SCORE = "d_prime"  # a NumPy float64 in heareval, so never rounded to float32 as the other scores are
SUMMARY_ROWS = 64  # rows of the random input that heareval prints a summary with


@dataclass(frozen=True)
class Epoch:
    """One epoch as it happened: the loss of every step and, where it validated, loss, score, post-processing and
    predictions.
    """

    index: int
    losses: list[Tensor]
    loss: float = math.nan
    score: float = math.nan
    postprocessing: Postprocessing | None = None
    probability: Float[np.ndarray, "n C"] | None = None


@dataclass
class FitResult:
    """Best validation of a fit.

    Parameters
    ----------
    state : dict of str to Tensor
        Weights then.
    score : float
        Monitored value: the first score of the task, or the validation loss.
    epoch : int
        Counted from 0.
    postprocessing : Postprocessing, optional
        Selected then, in event tasks.
    """

    hyper: HyperParams
    state: dict[str, Tensor] = field(default_factory=dict)
    score: float = math.nan
    epoch: int = -1
    postprocessing: Postprocessing | None = None


def smaller_is_better(task: Task) -> bool:
    """Return whether the monitored value of a task should decrease."""
    return not task.stop_by_score or SCORES[task.scores[0]].smaller


def new_head(size: int, labels: int, hyper: HyperParams) -> Head:
    """Return a new head, and consume the random numbers that heareval uses for its summary."""
    head = Head(size, labels, hyper)
    torch.rand(SUMMARY_ROWS, size)
    return head


def fit(
    head: Head,
    task: Task,
    train: Rows,
    valid: Rows,
    hyper: HyperParams,
    observe: Callable[[Epoch], None] = lambda epoch: None,
) -> FitResult:
    """Train with early stopping. Return the weights of the best validation.

    Raises
    ------
    DataError
        When a batch would have one row, which batch normalisation cannot use; heareval stops there, too.
    """
    if hyper.hidden_layers and len(train) % hyper.batch_size == 1:
        raise DataError(
            f"{task.name} trains on {len(train)} rows, which leaves a batch of one; heareval stops here, too: use"
            " --mode robust"
        )
    trainer = HeadTrainer(
        head, torch.optim.Adam(head.parameters(), hyper.lr), partial(loss_of, multilabel=task.multilabel)
    )
    best, sign, stopping = FitResult(hyper), -1.0 if smaller_is_better(task) else 1.0, EarlyStopping(hyper.patience)
    for index in range(hyper.max_epochs):
        losses = _train(trainer, train, hyper.batch_size)
        if (index + 1) % hyper.check_val_every_n_epoch:
            observe(Epoch(index, losses))
            continue
        epoch = _validate(head, task, valid, hyper.batch_size, index, losses)
        observe(epoch)
        value = sign * _rounded(epoch.score if task.stop_by_score else epoch.loss, task)
        if stopping.improved(value):
            worst = -sign * math.inf
            best = FitResult(
                hyper, snapshot(head), worst if math.isnan(value) else sign * value, index, epoch.postprocessing
            )
        if stopping.exhausted or not math.isfinite(value):
            break
    return best


@torch.no_grad()
def predict(head: Head, x: Float[Tensor, "n D"], batch_size: int) -> Float[Tensor, "n C"]:
    """Return the logits, computed in the batches of heareval."""
    head.eval()
    return torch.cat([head(part) for part in torch.split(x, batch_size)])


def _train(trainer: HeadTrainer, rows: Rows, batch_size: int) -> list[Tensor]:
    """Train for one epoch over the batches in their fixed order."""
    _consume_dataloader_seed()
    batches = zip(torch.split(rows.x, batch_size), torch.split(rows.y, batch_size), strict=True)
    return [trainer.step(x, y) for x, y in batches]


def _validate(head: Head, task: Task, rows: Rows, batch_size: int, index: int, losses: list[Tensor]) -> Epoch:
    _consume_dataloader_seed()
    logits = predict(head, rows.x, batch_size)
    loss = float(loss_of(logits, rows.y, task.multilabel))
    probability = probabilities(logits, task.multilabel).numpy()
    if task.stop_by_score:
        score, postprocessing = score_and_tune(task, rows, probability)
        return Epoch(index, losses, loss, score, postprocessing, probability)
    return Epoch(
        index, losses, loss, postprocessing=task.postprocessing[0] if task.event else None, probability=probability
    )


def _rounded(value: float, task: Task) -> float:
    return value if task.stop_by_score and task.scores[0] == FLOAT64_SCORE else float(np.float32(value))


def _consume_dataloader_seed() -> None:
    """Consume the random number with which a torch data loader starts."""
    torch.empty((), dtype=torch.int64).random_()


def snapshot(head: Head) -> dict[str, Tensor]:
    """Return a copy of the weights."""
    return {name: value.detach().clone() for name, value in head.state_dict().items()}
