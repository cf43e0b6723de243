"""The better protocol: same classifier, same grid, what is wrong in the published one put right.

Training rows are shuffled in every epoch; a last batch of one row joins the one before; a score that is undefined counts as the worst
instead of ending a fit; several seeds are run. All grid points of one shape are trained together as one model whose weights carry the
point as their first dimension, and points that are done leave it. The grid is searched with the first seed; the chosen point is fitted
again for every seed and fold, the seeds of a fold together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from unheard.errors import DataError
from unheard.evaluation.events import Postprocessing
from unheard.evaluation.fit import Fit, smaller_is_better
from unheard.evaluation.head import GRID_POINTS, Head, Hyper, grid, loss_of, probability_of
from unheard.evaluation.heareval import Tested, check, test
from unheard.evaluation.rows import Rows, judge, parts, stack
from unheard.evaluation.tasks import Task
from unheard.progress import Track, silent

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's defaults for BatchNorm1d


class Heads:
    """Several `Head` of one shape as one model: (B, D) to (G, B, C).

    Parameters
    ----------
    heads : sequence of Head
        Their weights are copied.
    hypers : sequence of Hyper
        Equal up to learning rate and initialisation.
    """

    def __init__(self, heads: Sequence[Head], hypers: Sequence[Hyper]) -> None:
        states = [head.state_dict() for head in heads]
        self.hypers = list(hypers)
        self.state = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        self.weights = [name for name, _ in heads[0].named_parameters()]
        self.turned = [name for name in self.weights if self.state[name].ndim == 3 and name != self.weights[0]]
        for name in self.turned:  # (G, in, out), so that the products need no copies
            self.state[name] = self.state[name].transpose(1, 2).contiguous()
        for name in self.weights:
            self.state[name].requires_grad_(True)
        groups = [{"params": self._views(point), "lr": hyper.lr} for point, hyper in enumerate(hypers)]
        self.optimiser = torch.optim.Adam(groups, fused=True)

    def logits(self, x: Float[Tensor, "B D"], training: bool) -> Float[Tensor, "G B C"]:
        """Logits of every point."""
        points, layers = len(self.hypers), self.hypers[0].hidden_layers
        h = x
        for layer in range(layers):
            h = self._linear(h, f"hidden.{4 * layer}")
            norm = {
                part: self.state[f"hidden.{4 * layer + 1}.{part}"].flatten() for part in ("running_mean", "running_var", "weight", "bias")
            }
            flat = F.batch_norm(
                h.flatten(1), norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"], training, MOMENTUM, EPSILON
            )
            h = F.relu(F.dropout(flat, self.hypers[0].dropout, training)).view(len(x), points, -1)
        return self._linear(h, "projection").transpose(0, 1)

    def step(self, x: Float[Tensor, "B D"], y: Float[Tensor, "B C"], multilabel: bool) -> None:
        """One step of every point on the same rows."""
        logits = self.logits(x, training=True)
        loss = torch.stack([loss_of(each, y, multilabel) for each in logits]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        for point, group in enumerate(self.optimiser.param_groups):
            for name, view in zip(self.weights, group["params"], strict=True):
                grad = self.state[name].grad
                view.grad = None if grad is None else grad[point]
        self.optimiser.step()
        for name in self.weights:
            self.state[name].grad = None

    def keep(self, kept: Bool[np.ndarray, " G"]) -> None:
        """Let the other points go."""
        index = torch.from_numpy(np.flatnonzero(kept))
        self.state = {name: value.detach()[index].requires_grad_(value.requires_grad) for name, value in self.state.items()}
        self.hypers = list(itertools.compress(self.hypers, kept))
        groups = list(itertools.compress(self.optimiser.param_groups, kept))
        moments = self.optimiser.state
        for point, group in enumerate(groups):
            views = self._views(point)
            for old, new in zip(group["params"], views, strict=True):
                moments[new] = moments.pop(old)
            group["params"] = views
        self.optimiser.param_groups[:] = groups

    def copy(self, point: int) -> dict[str, Tensor]:
        """Weights of one point, as a `Head` has them."""
        found = {name: value.detach()[point] for name, value in self.state.items()}
        return {name: value.T.contiguous() if name in self.turned else value.clone() for name, value in found.items()}

    def _linear(self, h: Tensor, name: str) -> Float[Tensor, "B G K"]:
        """A layer of every point; the first sees the same rows at each, as one wide product."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        if f"{name}.weight" not in self.turned:
            return F.linear(h, weight.flatten(0, 1), bias.flatten()).view(len(h), len(self.hypers), -1)
        return torch.baddbmm(bias[:, None], h.transpose(0, 1), weight).transpose(0, 1)

    def _views(self, point: int) -> list[Tensor]:
        """Weights of one point as tensors of their own that share memory with the whole."""
        return [self.state[name].detach()[point] for name in self.weights]


def evaluate(
    task: Task, splits: Mapping[str, Rows], points: int = GRID_POINTS, seeds: int = 3, track: Track = silent
) -> list[list[Tested]]:
    """Fit and test one task.

    Returns
    -------
    list of list of Tested
        One list a seed, with one entry a test split.

    Raises
    ------
    DataError
        When the training rows cannot teach anything.
    """
    check(task, splits)
    rounds, sign = parts(task), -1.0 if smaller_is_better(task) else 1.0
    shapes: dict[tuple[object, ...], list[Hyper]] = {}
    for hyper in grid(task, points):
        shapes.setdefault(astuple(replace(hyper, lr=0.0, initialization="")), []).append(hyper)
    runs: list[list[Tested]] = [[] for _ in range(seeds)]
    with torch.random.fork_rng(devices=[]):
        tried = track(shapes.values(), len(shapes), f"{task.name}: grid")
        found = [fit for hypers in tried for fit in fit_together(task, splits, 0, hypers, [0] * len(hypers))]
        best = max(found, key=lambda fit: sign * fit.score)
        for turn, part in enumerate(track(rounds, len(rounds), f"{task.name}: folds and seeds")):
            fits = fit_together(task, splits, turn, [best.hyper] * seeds, list(range(seeds)))
            for run, fit in zip(runs, fits, strict=True):
                run.append(test(task, part, splits, fit))
    return runs


def fit_together(task: Task, splits: Mapping[str, Rows], turn: int, hypers: Sequence[Hyper], seeds: Sequence[int]) -> list[Fit]:
    """Train heads of one shape on one round as one model, each until it has not improved for a while.

    Raises
    ------
    DataError
        When there is a single training row.
    """
    part, hyper = parts(task)[turn], hypers[0]
    train, valid = stack([splits[name] for name in part.train]), splits[part.valid]
    if len(train) < 2:
        raise DataError(f"{task.name} trains on {len(train)} row; batch normalisation needs two")
    heads = Heads([_seeded(train.x.shape[1], len(task.labels), each, seed) for each, seed in zip(hypers, seeds, strict=True)], hypers)
    best, waited, alive = [Fit(each) for each in hypers], np.zeros(len(hypers), int), np.arange(len(hypers))
    generator = torch.Generator().manual_seed(1000 + turn)
    for epoch in range(hyper.max_epochs):
        for index in batches(len(train), hyper.batch_size, generator):
            heads.step(train.x[index], train.y[index], task.multilabel)
        if (epoch + 1) % hyper.check_val_every_n_epoch:
            continue
        for place, (value, how) in enumerate(_judged(heads, task, valid)):
            point = alive[place]
            sign = -1.0 if smaller_is_better(task) else 1.0
            waited[point] += 1
            if best[point].epoch < 0 or sign * value > sign * best[point].score:
                best[point], waited[point] = Fit(hypers[point], heads.copy(place), value, epoch, how), 0
        if not (kept := waited[alive] < hyper.patience).all():
            alive = alive[kept]
            if not len(alive):
                break
            heads.keep(kept)
    return best


def batches(rows: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffled row indices in batches; a last one of a single row joins the one before."""
    found = list(torch.split(torch.randperm(rows, generator=generator), size))
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [torch.cat(found[-2:])]
    return found


def _seeded(size: int, labels: int, hyper: Hyper, seed: int) -> Head:
    torch.manual_seed(seed)
    return Head(size, labels, hyper)


@torch.no_grad()
def _judged(heads: Heads, task: Task, valid: Rows) -> list[tuple[float, Postprocessing | None]]:
    """What each point is judged by on the validation rows; undefined is the worst."""
    logits = torch.cat([heads.logits(x, training=False) for x in torch.split(valid.x, heads.hypers[0].batch_size)], dim=1)
    worst, found = math.inf if smaller_is_better(task) else -math.inf, []
    for each in logits:
        if task.stop_by_score:
            value, how = judge(task, valid, probability_of(each, task.multilabel).numpy())
        else:
            value, how = float(loss_of(each, valid.y, task.multilabel)), task.postprocessing[0] if task.event else None
        found.append((worst if math.isnan(value) else value, how))
    return found
