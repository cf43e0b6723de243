"""The heads of a probe on frozen vectors: nearest neighbours, logistic regression, and a network with one hidden layer.

All standardise every dimension by the clips they are fitted on, and choose what they choose on those or validation clips. Each gives a
score for every class, for clips of one class as for clips of several. A target is 1 where a clip has a class, 0 where it has not, and -1
where nobody judged: there it neither teaches nor chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from unheard.data.class_sets import Index
from unheard.errors import require
from unheard.evaluation.head import HeadTrainer
from unheard.metrics import balanced_accuracy, mean_average_precision
from unheard.model.classification import clip_losses, probabilities

NEIGHBOURS = 10  # our choice; never more than the square root of the training clips
REGULARISATION = 0.03  # inverse strength C: ordering of encoders is the same from 0.001 to 0.3, see the experiment log
TUNED = range(-6, 1)  # candidates for C as powers of the square root of 10: 0.001 to 1, our choice
WIDEST = range(-12, 9)  # how far the search goes while the last candidate is the best; our choice
MOST_TUNED = 2000  # clips of the first search for C; the second, around its result, uses all clips (our choice)
WORKING_MEMORY = 64  # MiB for a block of cosines; our choice
ITERATIONS, TOLERANCE = 300, 1e-5  # of L-BFGS, and the largest entry of the gradient that is left; our choice
HIDDEN, BATCH, RATE, DECAY = 128, 256, 5e-4, 1e-2  # of the network and AdamW; our choice
SURE = 1e-6  # probabilities are told apart down to this one; our choice
STEPS, EPOCHS = 200, 25  # steps of AdamW: the larger of these, and up to LONGER times as many while the held clips improve (our choice)
LONGER, LOOKS = 4, 20  # how often the held clips are scored in STEPS; our choice

Vectors = Float[np.ndarray, "n D"]
Others = Float[np.ndarray, "m D"]
Target = Int[np.ndarray, "n C"]
Table = Float[np.ndarray, "m C"]
Halves = Sequence[tuple[Index, Index]]
"""Clips to fit on and clips to choose by, as rows of the vectors that come with them."""


def neighbours(train: Vectors, target: Target, test: Others) -> Table:
    """Return the share of each class among the nearest training clips, each weighted by 1 + its cosine similarity.

    Where some clips are annotated for some classes only, each class takes its neighbours among the clips annotated for it.
    """
    train, test = standardised(train, test)
    patterns, pattern = np.unique(target >= 0, axis=1, return_inverse=True)
    found = np.zeros((len(test), target.shape[1]))
    for number, rows in enumerate(map(np.flatnonzero, patterns.T)):  # classes that are annotated in the same clips
        classes = np.flatnonzero(pattern.reshape(-1) == number)
        if len(rows):
            found[:, classes] = _votes(train[rows], target[np.ix_(rows, classes)], test)
    return found


def _votes(train: Vectors, target: Target, test: Others) -> Table:
    require("sklearn", "eval", "scikit-learn")
    from sklearn import config_context
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, max(1, int(np.sqrt(len(target)))))
    with config_context(working_memory=WORKING_MEMORY):
        distance, nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(train).kneighbors(test)
    weight = 2 - distance
    votes = np.einsum("mk,mkc->mc", weight, target[nearest])
    return np.asarray(votes / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12))


def linear(train: Vectors, target: Target, test: Others, strengths: Sequence[float], multilabel: bool) -> list[Table]:
    """Return the probability of each class from L2-regularised logistic regression, one table for each inverse strength C.

        minimise  sum_i loss(W x_i + b, y_i) + |W|^2 / (2 C)

    The loss is one cross entropy a clip (scikit-learn), or, where clips of the table may have several classes, a binary one for each
    annotated class (ours: scikit-learn has no partial annotation). A class that no training clip has gets 0, one that all have gets 1.
    """
    train, test = rotated(*standardised(train, test))
    return (_independent if multilabel else _exclusive)(train, target, test, strengths)


def _exclusive(train: Vectors, target: Target, test: Others, strengths: Sequence[float]) -> list[Table]:
    require("sklearn", "eval", "scikit-learn")
    from sklearn.linear_model import LogisticRegression

    index, tables = target.argmax(axis=1), []
    there = np.unique(index)
    model = LogisticRegression(tol=TOLERANCE, max_iter=ITERATIONS, warm_start=True)
    for strength in strengths:
        table = np.zeros((len(test), target.shape[1]))
        if len(there) == 1:
            table[:, there] = 1
        else:
            # scikit-learn has one weight vector for two classes: half the penalty of two opposite ones
            table[:, there] = model.set_params(C=strength * (2 if len(there) == 2 else 1)).fit(train, index).predict_proba(test)
        tables.append(table)
    return tables


def _independent(train: Vectors, target: Target, test: Others, strengths: Sequence[float]) -> list[Table]:
    there = (target > 0).any(axis=0)
    live = there & (target == 0).any(axis=0)
    x, y = torch.from_numpy(train), torch.from_numpy(target[:, live].astype(np.float64))
    weight, bias = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64), torch.zeros(y.shape[1], dtype=torch.float64)
    tables = []
    for strength in strengths:
        if live.any():  # SciPy before 1.15 refuses to minimise nothing
            minimise(
                lambda: loss_per_clip(x @ weight + bias, y, multilabel=True) + weight.square().sum() / (2 * strength * len(x)),  # noqa: B023
                [weight, bias],
            )
        table = np.tile(there.astype(np.float64), (len(test), 1))
        table[:, live] = probabilities((torch.from_numpy(test) @ weight + bias).detach(), multilabel=True).numpy()
        tables.append(table)
    return tables


def choose_strength(vectors: Vectors, target: Target, halves: Halves, multilabel: bool) -> float:
    """The C that does best on the held clips; where several do, the one whose probabilities fit them best.

    The candidates of `TUNED` are fitted on at most `MOST_TUNED` clips. Where there are more, the best one and its neighbours are fitted
    again on all clips of the first half. While the last candidate is strictly the best, the next one is tried, within `WIDEST`.
    """
    if not len(halves):
        return REGULARISATION
    few = [(fit[np.random.default_rng(0).permutation(len(fit))[:MOST_TUNED]], held) for fit, held in halves]
    best = _search(vectors, target, few, multilabel, TUNED)
    if len(halves[0][0]) > MOST_TUNED:
        best = _search(vectors, target, halves[:1], multilabel, range(best - 1, best + 2))
    return strength_of(best)


def strength_of(power: int) -> float:
    """The candidate C = 10^(power / 2), rounded to two digits."""
    return float(f"{10 ** (power / 2):.1e}")


def _search(vectors: Vectors, target: Target, halves: Halves, multilabel: bool, powers: range) -> int:
    """The power of the best C among ``powers``, and beyond them while the last one is the best."""
    score, tried = ranking if multilabel else right, dict[int, tuple[float, float]]()
    missing = list(powers)
    while missing:
        answers = [linear(vectors[fit], target[fit], vectors[held], [*map(strength_of, missing)], multilabel) for fit, held in halves]
        for place, power in enumerate(missing):
            pairs = [(target[held], answer[place]) for (_, held), answer in zip(halves, answers, strict=True)]
            scores, losses = sum(score(*pair) for pair in pairs), sum(surprise(*pair) for pair in pairs)
            tried[power] = (-round(scores, 9), losses)  # sums of equal scores may differ in their last digits
        best = min(tried, key=lambda power: tried[power])
        beyond = best - 1 if best == min(tried) else best + 1
        missing = [beyond] if best in (min(tried), max(tried)) and beyond in WIDEST else []
    return best


def network(vectors: Vectors, target: Target, seen: Index, test: Index, halves: Halves, seed: int, multilabel: bool) -> Table:
    """Probability of each class for the clips ``test`` from one hidden layer that learned the clips ``seen``.

    The number of steps is chosen on the held clips of the first of the ``halves``: training goes on while they improved in its last
    quarter, and the step of the least loss counts.
    """
    steps = max(STEPS, EPOCHS * math.ceil(len(seen) / BATCH)) // 2
    if halves:
        fit, held = halves[0]
        least = max(STEPS, EPOCHS * math.ceil(len(fit) / BATCH))
        x, other = rotated(*standardised(vectors[fit], vectors[held]))
        y, losses = torch.from_numpy(target[held].astype(np.float32)), list[float]()

        def look(net: nn.Module) -> bool:
            losses.append(float(loss_per_clip(net(_floats(other)), y, multilabel)))
            return len(losses) < LOOKS or int(np.argmin(losses)) + 1 > 0.75 * len(losses)

        learn(x, target[fit], LONGER * least, seed, multilabel, look, least // LOOKS)
        steps = least // LOOKS * (1 + int(np.argmin(losses)))
    x, other = rotated(*standardised(vectors[seen], vectors[test]))
    logits = learn(x, target[seen], steps, seed, multilabel)(_floats(other)).detach()
    return probabilities(logits, multilabel).double().numpy()


def learn(
    x: Vectors, target: Target, steps: int, seed: int, multilabel: bool, look: Callable[[nn.Module], bool] | None = None, every: int = 1
) -> nn.Module:
    """A network trained for some steps of AdamW; ``look`` is called with it at every ``every``-th one, and False ends the training."""
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
        if look is not None and step % every == 0:
            with torch.no_grad():
                if not look(net):
                    break
    return net


def minimise(loss: Callable[[], Tensor], weights: list[Tensor]) -> None:
    """Change ``weights`` in place until ``loss`` is at its minimum, by SciPy's L-BFGS and PyTorch's gradients.

    Raises
    ------
    UnheardError
        When SciPy is not installed.
    """
    require("scipy", "eval")
    from scipy.optimize import minimize

    ends = np.cumsum([weight.numel() for weight in weights])[:-1]

    def put(flat: NDArray[Any]) -> None:
        for weight, part in zip(weights, np.split(flat, ends), strict=True):
            weight.copy_(torch.from_numpy(part).view_as(weight))

    def at(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        with torch.no_grad():
            put(flat)
        for weight in weights:
            weight.requires_grad_(True)
        value = loss()
        slopes = torch.autograd.grad(value, weights)
        for weight in weights:
            weight.requires_grad_(False)
        return value.item(), torch.cat([slope.flatten() for slope in slopes]).double().numpy()

    start = torch.cat([weight.flatten() for weight in weights]).double().numpy()
    put(minimize(at, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 0}).x)


def loss_per_clip(logits: Float[Tensor, "n C"], y: Float[Tensor, "n C"], multilabel: bool) -> Float[Tensor, ""]:
    """Mean over clips of the cross entropy, or of the sum of the binary ones of the classes that were judged."""
    losses = clip_losses(logits, y.clamp(min=0), multilabel, (y >= 0).to(y.dtype)).mean()
    return losses * logits.shape[1] if multilabel else losses


def standardised(train: Vectors, test: Others) -> tuple[Vectors, Others]:
    """Mean 0 and spread 1 over the training clips, as float64; dimensions that never change become 0."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 1e-8 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-300), 0)
    return (train - mean) * scale, (test - mean) * scale


def rotated(train: Vectors, test: Others) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, "m P"]]:
    """The same clips in fewer dimensions, where there are fewer training clips than dimensions.

    The axes are the principal ones of the training clips: L2-regularised weights lie among them, so a linear head does not change,
    and a network learns the directions in which clips differ before the others.
    """
    if len(train) >= train.shape[1]:
        return train, test
    axes = np.linalg.svd(train, full_matrices=False)[2]
    return train @ axes.T, test @ axes.T


def right(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Balanced accuracy of the likeliest class."""
    return balanced_accuracy(target.argmax(axis=1), answer.argmax(axis=1))


def ranking(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Mean average precision of the classes; each class counts in the clips that were judged for it."""
    return mean_average_precision(target.clip(min=0), answer, target >= 0)


def surprise(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Mean negative log probability of what is true of the clips, over the classes that were judged."""
    chance = np.where(target > 0, answer, 1 - answer)[target >= 0]
    return float(-np.log(np.maximum(chance, SURE)).mean())


def _floats(rows: Others) -> Float[Tensor, "m D"]:
    return torch.from_numpy(rows.astype(np.float32))
