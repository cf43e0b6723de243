"""The learning curve of unheard-tiny: score the kept checkpoints of a run on clips that no test uses.

    python -m benchmarks.tiny.curve train-tiny train-tiny/unheard-tiny

The first folder is that of ``scripts/train-tiny``, with tasks; the second a run that has kept its checkpoints. The
scores and intervals are those of ``benchmarks.tiny.choose``. A checkpoint in the middle of a run has a high learning
rate; a shorter run that has ended is another model.

learning-curve/STEP.npz    predictions for the validation clips; a finished one is not computed again
learning-curve/table.md    a row for the random encoder and for each checkpoint, with the difference to the last one
learning-curve/curve.png   the last column of scores over the number of windows
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

import unheard
from benchmarks.tiny.choose import CHOICES, RANDOM, Predictions, averaged, cell, score, with_splits
from unheard.data.label_table import Labels
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.evaluation.probe.vectors import random_encoder
from unheard.files import atomic_write
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.session import read_config

Row = tuple[str, int, Predictions]
"""Name, windows, and predictions."""


def main() -> None:
    """Score, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    tasks, place = with_splits(given.folder / "tasks"), given.folder / "learning-curve"
    rows = []
    for name, windows, model in models_of(given.run):
        score(model, tasks, place / f"{name}.npz")
        rows.append((name, windows, dict(np.load(place / f"{name}.npz"))))
    text = table(rows, tasks)
    (place / "table.md").write_text(text)
    draw(rows, tasks, place / "curve.png")
    print(text)


def models_of(run: Path) -> Iterator[tuple[str, int, Model]]:
    """Yield name, number of windows and model: the random encoder, then every kept checkpoint of a run."""
    random = unheard.load("random-tiny")
    assert isinstance(random, Model)
    yield RANDOM, 0, random_encoder(random, 0)
    batch = read_config(run)["recipe"]["training"]["batch_size"]
    for step in checkpoints(run):
        yield step.name, read_progress(step).step * batch, load_own(step)


def table(rows: list[Row], tasks: dict[str, Labels]) -> str:
    """Return the table; differences are to the last row."""
    last = list(CHOICES)[-1]
    head = ["model", "windows", *CHOICES, f"{last}, less {rows[-1][0]}"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    end = averaged([rows[-1][2]], last, tasks)
    for name, windows, predictions in rows:
        means = [averaged([predictions], choice, tasks) for choice in CHOICES]
        less = "" if name == rows[-1][0] else cell(means[-1] - end)
        lines.append(f"| {' | '.join([name, f'{windows:,}', *(f'{each[-1]:.3f}' for each in means), less])} |")
    return "\n".join([*lines, ""])


def draw(rows: list[Row], tasks: dict[str, Labels], out: Path) -> None:
    """Draw the scores with their intervals over clips; the random encoder is a line."""
    import matplotlib.pyplot as plt

    last = list(CHOICES)[-1]
    found: list[Float[np.ndarray, " R"]] = [averaged([predictions], last, tasks) for _, _, predictions in rows]
    low, high = np.nanquantile([each[:-1] for each in found], [0.025, 0.975], axis=1)
    mean, windows = np.array([each[-1] for each in found]), np.array([each for _, each, _ in rows]) / 1e6
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.errorbar(windows[1:], mean[1:], [(mean - low)[1:], (high - mean)[1:]], fmt="o-", color="tab:blue", capsize=3)
    axes.axhline(mean[0], color="tab:grey", linestyle="--")
    axes.annotate("random encoder", (windows[-1], mean[0]), (0, 4), textcoords="offset points", ha="right")
    axes.set(xlabel="windows of 2.08 s (millions)", ylabel=f"mean of {len(tasks)} tasks", xlim=(0, None))
    axes.set_title("Scores on validation clips while unheard-tiny trains; bars: 95 % over clips", fontsize=9)
    with atomic_write(out) as path:
        figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


if __name__ == "__main__":
    main()
