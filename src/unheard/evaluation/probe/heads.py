"""Heads of a probe on frozen vectors: k nearest neighbours and logistic regression (see `mlp` for the MLP).

All heads standardise the dimensions on the training clips, and return a score for every class. Hyper-parameters are
selected on training or validation clips. A target is 1 if a clip has the class, 0 if not, and -1 if the class is not
annotated; such targets are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unheard import metrics
from unheard.data.class_sets import Index
from unheard.errors import require
from unheard.model.classification import clip_losses, probabilities

NEIGHBOURS = 10  # our choice; never more than the square root of the training clips
REGULARISATION = 0.03  # inverse regularisation C; encoders rank the same from 0.001 to 0.3, see the experiment log
C_GRID = range(-6, 1)  # candidates for C as powers of the square root of 10: 0.001 to 1, our choice
WIDEST = range(-12, 9)  # limits of the search for C; our choice
MAX_TUNING_SAMPLES = 2000  # clips of the first search for C; the second, around its result, uses all clips (our choice)
WORKING_MEMORY = 64  # MiB for a block of cosines; our choice
ITERATIONS, TOLERANCE = 3000, 1e-5  # of L-BFGS, and the largest entry of the gradient that is left; our choice
DISTANCE_STEP = 1e-9  # of cosine distances; our choice
PROB_EPS = 1e-6  # lower limit of probabilities in the log loss; our choice

Vectors = Float[np.ndarray, "n D"]
Others = Float[np.ndarray, "m D"]
Target = Int[np.ndarray, "n C"]
Table = Float[np.ndarray, "m C"]
InnerSplits = Sequence[tuple[Index, Index]]
"""Training and validation clips, as rows of the vectors."""


def knn(train: Vectors, target: Target, test: Others) -> Table:
    """Return the fraction of each class among the nearest training clips, weighted by 1 + cosine similarity.

    With partial annotation, the neighbours of each class are searched among the clips annotated for it.
    """
    train, test = standardise(train, test)
    patterns, pattern = np.unique(target >= 0, axis=1, return_inverse=True)
    found = np.zeros((len(test), target.shape[1]))
    for number, rows in enumerate(map(np.flatnonzero, patterns.T)):  # classes that are annotated in the same clips
        classes = np.flatnonzero(pattern.reshape(-1) == number)
        if len(rows):
            found[:, classes] = _votes(train[rows], target[np.ix_(rows, classes)], test)
    return found


def _votes(train: Vectors, target: Target, test: Others) -> Table:
    count = min(NEIGHBOURS, max(1, int(np.sqrt(len(target)))))
    distance, nearest = _nearest(train, test, count)
    weight = 2 - distance
    votes = np.einsum("mk,mkc->mc", weight, target[nearest])
    return np.asarray(votes / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12))


def _nearest(train: Vectors, test: Others, count: int) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
    """Return the cosine distances and rows of the nearest training clips, by blocks of test clips.

    Distances are rounded to `DISTANCE_STEP`, and of equal ones the first rows are taken. Otherwise the rounding of a
    matrix product, which depends on the block and on the processor, would select among equal distances.
    """
    require("sklearn", "eval", "scikit-learn")
    from sklearn.metrics import pairwise_distances_chunked

    def smallest(distances: Float[np.ndarray, "b n"], start: int) -> Int[np.ndarray, "b k"]:
        keys = np.rint(distances / DISTANCE_STEP).astype(np.int64) * len(train) + np.arange(len(train))
        return np.sort(np.partition(keys, count - 1, axis=1)[:, :count], axis=1)

    blocks = pairwise_distances_chunked(
        test, train, reduce_func=smallest, metric="cosine", working_memory=WORKING_MEMORY
    )
    steps, rows = np.divmod(np.concatenate(list(blocks)), len(train))
    return steps * DISTANCE_STEP, rows


def logistic_regression(
    train: Vectors, target: Target, test: Others, strengths: Sequence[float], multilabel: bool
) -> list[Table]:
    """Return class probabilities of L2-regularised logistic regression, one table for each inverse regularisation C.

        minimise  sum_i loss(W x_i + b, y_i) + |W|^2 / (2 C)

    The loss is the cross-entropy (scikit-learn), or for multilabel tables the binary cross-entropy of each annotated
    class (ours, because scikit-learn has no partial annotation). A class without positive training clips gets 0, a
    class without negative ones gets 1.
    """
    train, test = pca_project(*standardise(train, test))
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
            table[:, there] = (
                model.set_params(C=strength * (2 if len(there) == 2 else 1)).fit(train, index).predict_proba(test)
            )
        tables.append(table)
    return tables


def _independent(train: Vectors, target: Target, test: Others, strengths: Sequence[float]) -> list[Table]:
    there = (target > 0).any(axis=0)
    live = there & (target == 0).any(axis=0)
    tables = []
    for weight, bias in independent_weights(train, target[:, live], strengths):
        table = np.tile(there.astype(np.float64), (len(test), 1))
        table[:, live] = probabilities((torch.from_numpy(test) @ weight + bias).detach(), multilabel=True).numpy()
        tables.append(table)
    return tables


def independent_weights(
    train: Vectors, target: Target, strengths: Sequence[float]
) -> Iterator[tuple[Float[Tensor, "D C"], Float[Tensor, " C"]]]:
    """Yield weights and biases of binary logistic regressions, for each inverse regularisation C.

    Every class needs positive and negative clips. The tensors are changed by the next fit, which begins there.
    """
    x, y = torch.from_numpy(train), torch.from_numpy(target.astype(np.float64))
    weight, bias = (
        torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64),
        torch.zeros(y.shape[1], dtype=torch.float64),
    )
    for strength in strengths:

        def loss(divisor: float = 2 * strength * len(x)) -> Tensor:
            return loss_per_clip(x @ weight + bias, y, multilabel=True) + weight.square().sum() / divisor

        if y.shape[1]:  # SciPy before 1.15 refuses to minimise nothing
            lbfgs(loss, [weight, bias])
        yield weight, bias


def choose_strength(vectors: Vectors, target: Target, inner_splits: InnerSplits, multilabel: bool) -> float:
    """Return the C with the best score on the validation clips; ties are broken by the log loss.

    The candidates `C_GRID` are fitted on at most `MAX_TUNING_SAMPLES` clips. If there are more clips, the best
    candidate and its neighbours are fitted again on all training clips of the first split. If the best candidate is at
    the end of the grid, the search continues up to `WIDEST`.
    """
    if not len(inner_splits):
        return REGULARISATION
    few = [
        (fit[np.random.default_rng(0).permutation(len(fit))[:MAX_TUNING_SAMPLES]], validation)
        for fit, validation in inner_splits
    ]
    best = _search(vectors, target, few, multilabel, C_GRID)
    if len(inner_splits[0][0]) > MAX_TUNING_SAMPLES:
        best = _search(vectors, target, inner_splits[:1], multilabel, range(best - 1, best + 2))
    return strength_of(best)


def strength_of(power: int) -> float:
    """Return C = 10^(power / 2), rounded to two digits."""
    return float(f"{10 ** (power / 2):.1e}")


def _search(vectors: Vectors, target: Target, inner_splits: InnerSplits, multilabel: bool, powers: range) -> int:
    """Return the power of the best C among ``powers``; extend the search if it is at the end."""
    score, tried = mean_average_precision if multilabel else balanced_accuracy_score, dict[int, tuple[float, float]]()
    missing = list(powers)
    while missing:
        answers = [
            logistic_regression(
                vectors[fit], target[fit], vectors[validation], [*map(strength_of, missing)], multilabel
            )
            for fit, validation in inner_splits
        ]
        for index, power in enumerate(missing):
            pairs = [
                (target[validation], answer[index])
                for (_, validation), answer in zip(inner_splits, answers, strict=True)
            ]
            scores, losses = sum(score(*pair) for pair in pairs), sum(log_loss(*pair) for pair in pairs)
            tried[power] = (-round(scores, 9), losses)  # sums of equal scores may differ in their last digits
        best = min(tried, key=lambda power: tried[power])
        beyond = best - 1 if best == min(tried) else best + 1
        missing = [beyond] if best in (min(tried), max(tried)) and beyond in WIDEST else []
    return best


def lbfgs(loss: Callable[[], Tensor], weights: list[Tensor]) -> None:
    """Minimise ``loss`` over ``weights`` in place, with L-BFGS of SciPy and gradients of PyTorch.

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
    put(
        minimize(
            at, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 0}
        ).x
    )


def loss_per_clip(logits: Float[Tensor, "n C"], y: Float[Tensor, "n C"], multilabel: bool) -> Float[Tensor, ""]:
    """Return the mean cross-entropy per clip, or the sum of the binary ones over the annotated classes."""
    losses = clip_losses(logits, y.clamp(min=0), multilabel, (y >= 0).to(y.dtype)).mean()
    return losses * logits.shape[1] if multilabel else losses


def standardise(train: Vectors, test: Others) -> tuple[Vectors, Others]:
    """Standardise with mean and deviation of the training clips, in float64; constant dimensions become 0."""
    mean, scale = standardisation(train)
    return (train.astype(np.float64) - mean) * scale, (test.astype(np.float64) - mean) * scale


def standardisation(train: Vectors) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Return the mean of each dimension, and the factor after which its deviation is 1; 0 for a constant one."""
    train = train.astype(np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    return mean, np.where(spread > 1e-8 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-300), 0)


def pca_project(train: Vectors, test: Others) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, "m P"]]:
    """Project to the principal axes of the training clips, if there are fewer clips than dimensions.

    A linear head with L2 regularisation does not change, because its weights are in the span of the training clips.
    """
    if len(train) >= train.shape[1]:
        return train, test
    axes = np.linalg.svd(train, full_matrices=False)[2]
    return train @ axes.T, test @ axes.T


def balanced_accuracy_score(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Return the balanced accuracy of the most likely class."""
    return metrics.balanced_accuracy(target.argmax(axis=1), answer.argmax(axis=1))


def mean_average_precision(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Return the mean average precision over classes; each class is scored on its annotated clips."""
    return metrics.mean_average_precision(target.clip(min=0), answer, target >= 0)


def log_loss(target: Int[np.ndarray, "m C"], answer: Table) -> float:
    """Return the mean negative log probability of the targets, over the annotated classes."""
    probability = np.where(target > 0, answer, 1 - answer)[target >= 0]
    return float(-np.log(np.maximum(probability, PROB_EPS)).mean())
