"""Heads trained by AdamW: the number of steps is selected on validation clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.data.class_sets import Index
from unheard.evaluation.head_training import HeadTrainer
from unheard.evaluation.probe.heads import InnerSplits, Table, Target, loss_per_clip
from unheard.model.classification import probabilities

STEPS, EPOCHS = 200, 25  # minimum number of AdamW steps is the larger of these; our choice
LONGER = 4  # maximum number of steps, as a multiple of the minimum; our choice
LOOKS = 20  # number of validations within the minimum number of steps; our choice
CHUNK = 64  # clips of one forward pass outside training, where rows are read from an array; our choice


@runtime_checkable
class Rows(Protocol):
    """Inputs of a head, one for each clip: a tensor, or an array of which batches become tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


Prepare = Callable[[Index, Index], tuple[Rows, Rows]]
"""Returns the inputs of training clips and of other clips, prepared with the training clips only."""


@dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Parameters
    ----------
    build : callable
        (training rows, number of classes) -> head.
    batch : int
        Clips of a step.
    rate, decay : float
        Learning rate and weight decay of AdamW.
    decayed : callable
        Whether a parameter with this name decays.
    """

    build: Callable[[Rows, int], nn.Module]
    batch: int
    rate: float
    decay: float
    decayed: Callable[[str], bool] = lambda name: True


@dataclass(frozen=True)
class Clips:
    """Targets and clips of one fit.

    Parameters
    ----------
    target : Int[ndarray, "n C"]
    train, test : Int[ndarray, "_"]
    inner_splits : sequence of (Int[ndarray, "_"], Int[ndarray, "_"])
    seed : int
        Of the initial weights, the batches and dropout.
    multilabel : bool
    """

    target: Target
    train: Index
    test: Index
    inner_splits: InnerSplits
    seed: int
    multilabel: bool


def fit_predict(prepare: Prepare, recipe: Recipe, clips: Clips) -> Table:
    """Return the class probabilities of the test clips from a head trained on the training clips.

    The number of steps is that with the lowest validation loss on the first of the inner splits. The search ends when
    the loss has not improved in the last quarter of the steps.
    """
    steps = least_steps(len(clips.train), recipe.batch) // 2
    if clips.inner_splits:
        steps = _selected_steps(prepare, recipe, clips)
    rows, others = prepare(clips.train, clips.test)
    net = learn(rows, clips.target[clips.train], steps, recipe, clips)
    return probabilities(logits(net, others), clips.multilabel).double().numpy()


def least_steps(clips: int, batch: int) -> int:
    """Return the minimum number of steps of the search."""
    return max(STEPS, EPOCHS * math.ceil(clips / batch))


def _selected_steps(prepare: Prepare, recipe: Recipe, clips: Clips) -> int:
    fit, validation = clips.inner_splits[0]
    least = least_steps(len(fit), recipe.batch)
    rows, others = prepare(fit, validation)
    y, losses = torch.from_numpy(clips.target[validation].astype(np.float32)), list[float]()

    def evaluate(net: nn.Module) -> bool:
        losses.append(float(loss_per_clip(logits(net, others), y, clips.multilabel)))
        return len(losses) < LOOKS or int(np.argmin(losses)) + 1 > 0.75 * len(losses)

    learn(rows, clips.target[fit], LONGER * least, recipe, clips, evaluate, least // LOOKS)
    return least // LOOKS * (1 + int(np.argmin(losses)))


def learn(
    rows: Rows,
    target: Target,
    steps: int,
    recipe: Recipe,
    clips: Clips,
    evaluate: Callable[[nn.Module], bool] | None = None,
    every: int = 1,
) -> nn.Module:
    """Train a head for ``steps`` steps of AdamW.

    ``evaluate`` is called with the head after every ``every``-th step; False ends the training.
    """
    y = torch.from_numpy(target.astype(np.float32))
    generator = torch.Generator().manual_seed(clips.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(clips.seed)
        net = recipe.build(rows, target.shape[1])
        trainer = HeadTrainer(net, _optimizer(net, recipe), partial(loss_per_clip, multilabel=clips.multilabel))
        for step in range(1, steps + 1):
            index = torch.randperm(len(rows), generator=generator)[: recipe.batch]
            trainer.step(rows[index], y[index])
            if evaluate is not None and step % every == 0 and not evaluate(net):
                break
    return net


@torch.no_grad()
def logits(net: nn.Module, rows: Rows) -> Float[Tensor, "m C"]:
    """Return the logits of all rows, in chunks if they are not a tensor."""
    net.eval()
    if isinstance(rows, Tensor):
        found: Tensor = net(rows)
        return found
    return torch.cat([net(rows[index]) for index in torch.split(torch.arange(len(rows)), CHUNK)])


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    named = list(net.named_parameters())
    groups = [
        {"params": [each for name, each in named if recipe.decayed(name) == decayed], "weight_decay": decay}
        for decayed, decay in ((True, recipe.decay), (False, 0.0))
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.rate, fused=True)
