"""The better protocol: same classifier, same grid, what is wrong in the published one put right.

Training rows are shuffled in every epoch; a last batch of one row joins the one before; a score that is undefined counts as the worst
instead of ending a fit; several seeds are run. All grid points of one shape train together: one batch is drawn for all of them, and
points that are done leave. The grid is searched with the first seed; the chosen point is fitted again for every seed and fold, the seeds
of a fold together. With folds the search is on the first round alone, as in heareval, though the fold that validates there is tested in a
later one. Every head draws its dropout from a generator of its own, so its fit does not depend on its company.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.errors import DataError
from unheard.evaluation.descent import Descent, Drop
from unheard.evaluation.events import Postprocessing
from unheard.evaluation.fit import Fit, predict, smaller_is_better, snapshot
from unheard.evaluation.head import GRID_POINTS, Head, Hyper, grid, loss_of, probability_of, quick
from unheard.evaluation.heareval import Forgetful, Memory, Tested, check, test
from unheard.evaluation.rows import Rows, judge, parts, stack
from unheard.evaluation.tasks import Task
from unheard.progress import Track, silent

SHUFFLED = 1000  # added to the number of a round for the seed of its batches; our choice


def evaluate(
    task: Task, splits: Mapping[str, Rows], points: int = GRID_POINTS, seeds: int = 3, memory: Memory | None = None, track: Track = silent
) -> list[list[Tested]]:
    """Fit and test one task with several seeds: one list a seed, with one entry a test split.

    Raises
    ------
    DataError
        When the training rows cannot teach anything.
    """
    check(task, splits)
    memory, rounds, sign = memory or Forgetful(), parts(task), -1.0 if smaller_is_better(task) else 1.0
    shapes: dict[tuple[object, ...], list[tuple[int, Hyper, int]]] = {}
    for index, hyper in enumerate(grid(task, points)):
        shapes.setdefault(astuple(replace(hyper, lr=0.0, initialization="")), []).append((index, hyper, 0))
    runs: list[list[Tested]] = [[] for _ in range(seeds)]
    with torch.random.fork_rng(devices=[]):
        tried = track(shapes.values(), len(shapes), f"{task.name}: grid")
        found = [fit for jobs in tried for fit in _remembered(task, splits, 0, jobs, memory)]
        best = max(found, key=lambda fit: sign * fit.score)
        for turn, part in enumerate(track(rounds, len(rounds), f"{task.name}: folds and seeds")):
            jobs = [(len(found) + turn * seeds + seed, best.hyper, seed) for seed in range(seeds)]
            for run, fit in zip(runs, _remembered(task, splits, turn, jobs, memory), strict=True):
                run.append(test(task, part, splits, fit))
    return runs


def fit_together(task: Task, splits: Mapping[str, Rows], turn: int, hypers: Sequence[Hyper], seeds: Sequence[int]) -> list[Fit]:
    """Train heads of one shape on one round on the same batches, each until it has not improved for a while.

    Raises
    ------
    DataError
        When there is a single training row.
    """
    part, hyper = parts(task)[turn], hypers[0]
    train, valid = stack([splits[name] for name in part.train]), splits[part.valid]
    if len(train) < 2:
        raise DataError(f"{task.name} trains on {len(train)} row; batch normalisation needs two")
    alive = [_Pupil(train.x.shape[1], task, *job) for job in zip(hypers, seeds, strict=True)]
    pupils, generator = list(alive), torch.Generator().manual_seed(SHUFFLED + turn)
    for epoch in range(hyper.max_epochs):
        for index in batches(len(train), hyper.batch_size, generator):
            x, y = train.x[index], train.y[index]
            for pupil in alive:
                pupil.descent.step(x, y, task.multilabel)
        if (epoch + 1) % hyper.check_val_every_n_epoch:
            continue
        alive = [pupil for pupil in alive if pupil.goes_on(valid, epoch)]
        if not alive:
            break
    return [pupil.best for pupil in pupils]


def batches(rows: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffled row indices in batches; a last one of a single row joins the one before."""
    found = list(torch.split(torch.randperm(rows, generator=generator), size))
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [torch.cat(found[-2:])]
    return found


def drawn(probability: float, seed: int) -> Drop | None:
    """Dropout from a generator of its own; sixteen random bits decide about a value, which takes a third of torch's time."""
    if not probability:
        return None
    generator, border, scale = np.random.Generator(np.random.SFC64(seed)), round(probability * 2**16) - 2**15, 1 / (1 - probability)

    def drop(z: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        bits = generator.integers(-(2**15), 2**15, z.shape, np.int16)
        return (torch.from_numpy(bits) >= border) * scale

    return drop


class _Pupil:
    """One head under way, and the best it was."""

    def __init__(self, size: int, task: Task, hyper: Hyper, seed: int) -> None:
        torch.manual_seed(seed)
        self._task, self._head, self._waited, self.best = task, Head(size, len(task.labels), hyper, quick), 0, Fit(hyper)
        self.descent = Descent(self._head, hyper.lr, drawn(hyper.dropout, seed))

    def goes_on(self, valid: Rows, epoch: int) -> bool:
        """Validate; False when nothing has improved for too long."""
        value, how = self._judged(valid)
        sign, hyper = -1.0 if smaller_is_better(self._task) else 1.0, self.best.hyper
        self._waited += 1
        if self.best.epoch < 0 or sign * value > sign * self.best.score:
            self.best, self._waited = Fit(hyper, snapshot(self._head), value, epoch, how), 0
        return self._waited < hyper.patience

    def _judged(self, valid: Rows) -> tuple[float, Postprocessing | None]:
        """What the head is judged by; undefined is the worst."""
        task, logits = self._task, predict(self._head, valid, self.best.hyper.batch_size)
        if task.stop_by_score:
            value, how = judge(task, valid, probability_of(logits, task.multilabel).numpy())
        else:
            value, how = float(loss_of(logits, valid.y, task.multilabel)), task.postprocessing[0] if task.event else None
        return (math.inf if smaller_is_better(task) else -math.inf) if math.isnan(value) else value, how


def _remembered(task: Task, splits: Mapping[str, Rows], turn: int, jobs: Sequence[tuple[int, Hyper, int]], memory: Memory) -> list[Fit]:
    """Fits of (number, hyper-parameters, seed), those that are known taken from memory."""
    found = {number: fit for number, _, _ in jobs if (fit := memory.get(number)) is not None}
    if missing := [job for job in jobs if job[0] not in found]:
        fits = fit_together(task, splits, turn, [hyper for _, hyper, _ in missing], [seed for _, _, seed in missing])
        for (number, _, _), fit in zip(missing, fits, strict=True):
            memory.put(number, fit)
            found[number] = fit
    return [found[number] for number, _, _ in jobs]
