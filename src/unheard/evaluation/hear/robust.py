"""The robust protocol: classifier and grid of heareval, with corrections.

- Training rows are shuffled in every epoch; a last batch of one row is merged with the previous one.
- An undefined score counts as the worst; F-measure and precision are 0 if no event was detected.
- All grid points of one shape train on the same batches, on an accelerator as one batched model (`head_ensemble`).
- The grid search uses the first seed. The selected point is then trained with every seed on every fold.
- With folds, the grid search uses the first round only, as in heareval.
- Every head has its own generator for dropout, so that its result does not depend on the other heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import torch
from jaxtyping import Float
from torch import Tensor

from unheard.errors import DataError
from unheard.evaluation.head_training import OneDnnLinear
from unheard.evaluation.hear.events import Postprocessing
from unheard.evaluation.hear.fit import FitResult, smaller_is_better
from unheard.evaluation.hear.head import GRID_POINTS, Head, HyperParams, grid, loss_of
from unheard.evaluation.hear.head_ensemble import make_ensemble
from unheard.evaluation.hear.heareval import FitCache, NullFitCache, SplitResult, check, test
from unheard.evaluation.hear.rows import Rows, parts, score_and_tune, stack
from unheard.evaluation.hear.task_folder import Task
from unheard.model.classification import probabilities
from unheard.progress import Track, silent
from unheard.training.early_stopping import EarlyStopping

ZERO_DIVISION = 0.0  # F-measure and precision if no event was detected
SHUFFLED = 1000  # added to the index of a round for the seed of its batches; our choice


def evaluate(
    task: Task,
    splits: Mapping[str, Rows],
    points: int = GRID_POINTS,
    seeds: int = 3,
    memory: FitCache | None = None,
    track: Track = silent,
    device: str = "cpu",
) -> list[list[SplitResult]]:
    """Fit and test one task with several seeds. Return one list per seed, with one entry per test split.

    Parameters
    ----------
    device : str
        Device for training; tests run on the CPU.

    Raises
    ------
    DataError
        When the training rows are unusable.
    """
    check(task, splits)
    memory, rounds, sign = memory or NullFitCache(), parts(task), -1.0 if smaller_is_better(task) else 1.0
    shapes: dict[tuple[object, ...], list[tuple[int, HyperParams, int]]] = {}
    for index, hyper in enumerate(grid(task, points)):
        shapes.setdefault(astuple(replace(hyper, lr=0.0, initialization="")), []).append((index, hyper, 0))
    runs: list[list[SplitResult]] = [[] for _ in range(seeds)]
    with torch.random.fork_rng(devices=[]):
        tried = track(shapes.values(), len(shapes), f"{task.name}: grid")
        found = [fit for jobs in tried for fit in _remembered(task, splits, 0, jobs, memory, device)]
        best = max(found, key=lambda fit: sign * fit.score)
        for round_index, part in enumerate(track(rounds, len(rounds), f"{task.name}: folds and seeds")):
            jobs = [(len(found) + round_index * seeds + seed, best.hyper, seed) for seed in range(seeds)]
            for run, fit in zip(runs, _remembered(task, splits, round_index, jobs, memory, device), strict=True):
                run.append(test(task, part, splits, fit, ZERO_DIVISION))
    return runs


def fit_together(
    task: Task,
    splits: Mapping[str, Rows],
    round_index: int,
    hypers: Sequence[HyperParams],
    seeds: Sequence[int],
    device: str = "cpu",
) -> list[FitResult]:
    """Train heads of one shape on the same batches of one round, each with early stopping.

    Parameters
    ----------
    device : str
        Device for training; heads are trained one by one on a CPU, otherwise as one batched model.

    Raises
    ------
    DataError
        When there is a single training row.
    """
    part, hyper, where = parts(task)[round_index], hypers[0], torch.device(device)
    train, valid = stack([splits[name] for name in part.train]), splits[part.valid]
    if len(train) < 2:
        raise DataError(f"{task.name} trains on {len(train)} row; batch normalisation needs two")
    heads = [_fresh(train.x.shape[1], task, *job) for job in zip(hypers, seeds, strict=True)]
    ensemble, best = make_ensemble(heads, hypers, seeds, where), [FitResult(each) for each in hypers]
    stopping, sign = [EarlyStopping(each.patience) for each in hypers], -1.0 if smaller_is_better(task) else 1.0
    x, y, valid_x = train.x.to(where), train.y.to(where), valid.x.to(where)
    alive, generator = list(range(len(heads))), torch.Generator().manual_seed(SHUFFLED + round_index)
    for epoch in range(hyper.max_epochs):
        for index in batches(len(train), hyper.batch_size, generator):
            ensemble.step(x[index], y[index], task.multilabel)
        if (epoch + 1) % hyper.check_val_every_n_epoch:
            continue
        for place, (head, logits) in enumerate(zip(alive, ensemble.predict(valid_x, hyper.batch_size), strict=True)):
            value, how = _monitored(task, valid, logits)
            if stopping[head].improved(sign * value):
                best[head] = FitResult(hypers[head], ensemble.state(place), value, epoch, how)
        on = [place for place, head in enumerate(alive) if not stopping[head].exhausted]
        if not on:
            break
        if len(on) < len(alive):
            ensemble.select(on)
            alive = [alive[place] for place in on]
    return best


def batches(rows: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Return shuffled row indices in batches; a last batch of one row is merged with the previous one."""
    found = list(torch.split(torch.randperm(rows, generator=generator), size))
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [torch.cat(found[-2:])]
    return found


def _monitored(task: Task, valid: Rows, logits: Float[Tensor, "n C"]) -> tuple[float, Postprocessing | None]:
    """Return the monitored value and the post-processing; an undefined value is the worst."""
    if task.stop_by_score:
        value, how = score_and_tune(task, valid, probabilities(logits, task.multilabel).numpy())
    else:
        value, how = float(loss_of(logits, valid.y, task.multilabel)), task.postprocessing[0] if task.event else None
    return (math.inf if smaller_is_better(task) else -math.inf) if math.isnan(value) else value, how


def _fresh(size: int, task: Task, hyper: HyperParams, seed: int) -> Head:
    torch.manual_seed(seed)
    return Head(size, len(task.labels), hyper, OneDnnLinear)


def _remembered(
    task: Task,
    splits: Mapping[str, Rows],
    round_index: int,
    jobs: Sequence[tuple[int, HyperParams, int]],
    memory: FitCache,
    device: str,
) -> list[FitResult]:
    """Return the fits of (number, hyper-parameters, seed), from the cache if available."""
    found = {number: fit for number, _, _ in jobs if (fit := memory.get(number)) is not None}
    if missing := [job for job in jobs if job[0] not in found]:
        fits = fit_together(
            task, splits, round_index, [hyper for _, hyper, _ in missing], [seed for _, _, seed in missing], device
        )
        for (number, _, _), fit in zip(missing, fits, strict=True):
            memory.put(number, fit)
            found[number] = fit
    return [found[number] for number, _, _ in jobs]
