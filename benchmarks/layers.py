"""Which layers of a model to embed, and how to pool them, by a linear head on clips that no test uses.

    python -m benchmarks.layers unheard-tiny tasks -o layers.csv

``tasks`` is a folder of tasks as ``unheard data tasks`` writes them. A choice is one layer, or one layer and the last
one, or all layers, with pool mean or mean+std. The head is ridge regression on standardised dimensions, with the best
of `PENALTIES`; the score is accuracy, or the mean of the average precisions if clips have several labels. A task with
splits is trained on ``train`` and scored on ``valid``, so its test clips stay unseen. A task with folds is scored on
each fold, with training on the others: it is shown and does not count in ``chosen``.

layers.csv    one row a choice, best first: layers, pool, size, chosen (mean of the tasks with splits), mean, each task
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import eigh

import unheard
from unheard.data.label_table import Labels, read_labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options, Pool
from unheard.evaluation.probe.vectors import layer_vectors
from unheard.files import write_table
from unheard.metrics import average_precisions
from unheard.progress import bar

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of squared weights, for features of mean square 1
EPS = 1e-5

Choice = tuple[tuple[int, ...], Pool]
"""Layers and pool."""
Kernel = Float[np.ndarray, "n n"]
Side = tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]
"""Clips of training, and clips that are scored."""


def main() -> None:
    """Write the table, and print its first rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tasks", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    model = unheard.load(given.model)
    scores: dict[str, dict[Choice, float]] = {}
    with_splits: list[str] = []
    for table in sorted(given.tasks.glob("*/labels.csv")):
        labels, name = read_labels(table), table.parent.name
        vectors = layer_vectors(model, labels, "mean+std", bar)
        scores[name] = scores_of_choices(vectors, labels)
        with_splits += [name] if "valid" in labels.split else []
    rows = [_row(model, choice, scores, with_splits or list(scores)) for choice in next(iter(scores.values()))]
    rows.sort(key=lambda row: -float(row["chosen"]))
    texts = [{key: _text(value) for key, value in row.items()} for row in rows]
    write_table(given.out, list(texts[0]), texts)
    for row in rows[:10]:
        print(f"layers {row['layers']:28} {row['pool']:9} {row['size']:6}  {row['chosen']:.4f}  {row['mean']:.4f}")


def _row(
    model: EmbeddingModel, choice: Choice, scores: dict[str, dict[Choice, float]], with_splits: list[str]
) -> dict[str, str | float]:
    layers, pool = choice
    size = model.row_size(Options(layers, pool, frames=False))
    found = {name: each[choice] for name, each in scores.items()}
    chosen, mean = (float(np.mean([found[name] for name in names])) for names in (with_splits, found))
    named = {"layers": " ".join(map(str, layers)), "pool": pool, "size": str(size)}
    return {**named, "chosen": chosen, "mean": mean, **found}


def _text(value: str | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else value


def choices(depth: int) -> Iterator[Choice]:
    """Yield layers and pool of every choice."""
    singles = [(number,) for number in range(1, depth + 1)]
    for layers in [*singles, *((number, depth) for number in range(1, depth)), tuple(range(1, depth + 1))]:
        yield from ((layers, pool) for pool in ("mean", "mean+std"))


def scores_of_choices(vectors: Float[np.ndarray, "n L D"], labels: Labels) -> dict[Choice, float]:
    """Return the score of every choice.

    Parameters
    ----------
    vectors : Float[ndarray, "n L D"]
        Mean and deviation of each layer, one after the other.
    """
    rows = np.flatnonzero([split != "test" for split in labels.split])
    target = labels.target[rows].astype(np.float64)
    split, fold = (np.array(values)[rows] for values in (labels.split, labels.fold))
    if "valid" in labels.split:
        sides: list[Side] = [(split == "train", split == "valid")]
    else:
        sides = [(fold != name, fold == name) for name in np.unique(fold)]
    half = vectors.shape[2] // 2
    kernels = {
        (number, part): kernel_of(vectors[rows, number - 1, part * half : (part + 1) * half])
        for number in range(1, vectors.shape[1] + 1)
        for part in (0, 1)
    }
    found = {}
    for layers, pool in choices(vectors.shape[1]):
        parts = [kernels[number, part] for number in layers for part in ((0, 1) if pool == "mean+std" else (0,))]
        found[layers, pool] = _score(sum(parts) / len(parts), target, sides, labels.multilabel)
    return found


def kernel_of(features: Float[np.ndarray, "n D"]) -> Kernel:
    """Return the products of clips, whose dimensions are standardised over them."""
    x = features.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + EPS)
    return x @ x.T / x.shape[1]


def ridge(kernel: Kernel, target: Float[np.ndarray, "n C"], side: Side) -> list[Float[np.ndarray, "t C"]]:
    """Return predictions for the clips of the second part of a side, one array for each of `PENALTIES`."""
    train, test = side
    values, basis = eigh(kernel[np.ix_(train, train)])
    mean = target[train].mean(axis=0)
    projected, across = basis.T @ (target[train] - mean), kernel[np.ix_(test, train)] @ basis
    return [across @ (projected / (values + penalty * train.sum())[:, None]) + mean for penalty in PENALTIES]


def _score(kernel: Kernel, target: Float[np.ndarray, "n C"], sides: list[Side], multilabel: bool) -> float:
    """Return the score with the best penalty, as the mean over the sides."""
    found = [[metric(target[side[1]], each, multilabel) for each in ridge(kernel, target, side)] for side in sides]
    return float(np.mean(found, axis=0).max())


def metric(target: Float[np.ndarray, "n C"], score: Float[np.ndarray, "n C"], multilabel: bool) -> float:
    """Return the accuracy, or the mean of the average precisions."""
    if multilabel:
        return float(np.nanmean(average_precisions(target.astype(int), score)))
    return float((score.argmax(axis=1) == target.argmax(axis=1)).mean())


if __name__ == "__main__":
    main()
