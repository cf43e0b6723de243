"""The MLP head of a probe: one hidden layer, with the number of steps selected on validation clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.data.class_sets import Index
from unheard.evaluation.head_training import HeadTrainer
from unheard.evaluation.probe.heads import (
    InnerSplits,
    Others,
    Table,
    Target,
    Vectors,
    loss_per_clip,
    pca_project,
    standardise,
)
from unheard.model.classification import probabilities

HIDDEN, BATCH, RATE, DECAY = 128, 256, 5e-4, 1e-2  # of the network and AdamW; our choice
STEPS, EPOCHS = 200, 25  # minimum number of AdamW steps is the larger of these; our choice
LONGER = 4  # maximum number of steps, as a multiple of the minimum; our choice
LOOKS = 20  # number of validations within the minimum number of steps; our choice


def mlp(
    vectors: Vectors,
    target: Target,
    train_rows: Index,
    test: Index,
    inner_splits: InnerSplits,
    seed: int,
    multilabel: bool,
) -> Table:
    """Return the class probabilities of the clips ``test`` from an MLP trained on ``train_rows``.

    The number of steps is that with the lowest validation loss on the first of the ``inner_splits``. The search ends
    when the loss has not improved in the last quarter of the steps.
    """
    steps = max(STEPS, EPOCHS * math.ceil(len(train_rows) / BATCH)) // 2
    if inner_splits:
        fit, validation = inner_splits[0]
        least = max(STEPS, EPOCHS * math.ceil(len(fit) / BATCH))
        x, other = pca_project(*standardise(vectors[fit], vectors[validation]))
        y, losses = torch.from_numpy(target[validation].astype(np.float32)), list[float]()

        def evaluate(net: nn.Module) -> bool:
            losses.append(float(loss_per_clip(net(_floats(other)), y, multilabel)))
            return len(losses) < LOOKS or int(np.argmin(losses)) + 1 > 0.75 * len(losses)

        learn(x, target[fit], LONGER * least, seed, multilabel, evaluate, least // LOOKS)
        steps = least // LOOKS * (1 + int(np.argmin(losses)))
    x, other = pca_project(*standardise(vectors[train_rows], vectors[test]))
    logits = learn(x, target[train_rows], steps, seed, multilabel)(_floats(other)).detach()
    return probabilities(logits, multilabel).double().numpy()


def learn(
    x: Vectors,
    target: Target,
    steps: int,
    seed: int,
    multilabel: bool,
    evaluate: Callable[[nn.Module], bool] | None = None,
    every: int = 1,
) -> nn.Module:
    """Train an MLP for ``steps`` steps of AdamW.

    ``evaluate`` is called with the network after every ``every``-th step; False ends the training.
    """
    rows, y = _floats(x), torch.from_numpy(target.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, target.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    trainer = HeadTrainer(net, optimizer, partial(loss_per_clip, multilabel=multilabel))
    for step in range(1, steps + 1):
        index = torch.randperm(len(rows), generator=generator)[:BATCH]
        trainer.step(rows[index], y[index])
        if evaluate is not None and step % every == 0:
            with torch.no_grad():
                if not evaluate(net):
                    break
    return net


def _floats(rows: Others) -> Float[Tensor, "m D"]:
    return torch.from_numpy(rows.astype(np.float32))
