"""Completion of a fine-tuning run: scores and confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unheard.devices import torch_device
from unheard.errors import UnheardError
from unheard.finetuning.scores import FinetunedRun, score_run
from unheard.finetuning.summary import FinetuneScores
from unheard.training.callbacks import Callbacks
from unheard.training.processes import first_process
from unheard.view.axes import FONT, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 25  # maximum number of classes for which counts are written into the cells; our choice


def finalise(run: Path, done: bool, report: Callbacks | None, device: str) -> FinetunedRun:
    """Score a finished run on a device and write its confusion matrix, in the first process only. Return the run."""
    callbacks = report or Callbacks()
    if not done or not first_process():
        return FinetunedRun(run, done)
    scores = score_run(run, torch_device(device), callbacks.progress)
    if scores is None:
        callbacks.log(
            "test       the table has no test clips, so no test score is computed; validation scores are in"
            " metrics.jsonl"
        )
        return FinetunedRun(run, done)
    draw(scores, run, callbacks.log)
    return FinetunedRun(run, done, scores)


def draw(scores: FinetuneScores, folder: Path, log: Callable[[str], None]) -> None:
    """Write ``figures/confusion.png`` into ``folder`` for single-label tables, in place of an older one; log a message
    if that fails.
    """
    file = folder / "figures" / "confusion.png"
    file.unlink(missing_ok=True)
    if scores.confusion:
        try:
            save(figure(scores.confusion, [row["class"] for row in scores.classes]), file)
        except UnheardError as error:
            log(f"no figure: {error}")


def figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Plot the confusion matrix: fraction of clips of each true class (row) predicted as each class (column).

    Raises
    ------
    UnheardError
        When matplotlib is not installed.
    """
    counts = np.asarray(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.0 + 0.3 * len(classes)
    picture, grid = new_figure(side, side, 1, 1)
    axes = grid[0, 0]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.argwhere(counts > 0) if len(classes) <= MOST_NUMBERED else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=FONT - 1, color=colour)
    return picture
