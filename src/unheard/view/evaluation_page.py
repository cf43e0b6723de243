"""Report of an evaluation: a figure of all tasks, the table of scores, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unheard.evaluation.comparison import best_of, near_best
from unheard.evaluation.report import Report, Result
from unheard.evaluation.results import EvaluationTable, as_json, to_csv
from unheard.files import FILES, file_checksums, write_json, write_text
from unheard.view.axes import FONT, caption, new_figure, save
from unheard.view.page import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"the best": "#c05621", "≈ may be as good": "#2b6cb0", "below": "0.6"}
COLUMNS = 4  # number of panels in a row; our choice


def write_evaluation(report: Report, shown: EvaluationTable, stem: Path) -> Path:
    """Write a report as csv, json, md, html and, if matplotlib is installed, png. Return the path of the html file."""
    tables = [
        write_text(stem.with_suffix(".csv"), to_csv(report.results)).name,
        write_text(stem.with_suffix(".md"), shown.markdown()).name,
    ]
    write_json(stem.with_suffix(".json"), {**as_json(report), FILES: file_checksums(stem.parent, tables)})
    finite = [result for result in report.results if np.isfinite(result.value)]
    figure = None
    if finite and find_spec("matplotlib"):
        figure = stem.with_suffix(".png")
        save(draw(finite), figure)
    values = {"figure": figure, **vars(shown)}
    return write_page(stem.with_suffix(".html"), "evaluation.html", title="Evaluation", wide=True, **values)


def draw(results: Sequence[Result]) -> Figure:
    """Plot one panel per task: score and interval of every encoder, coloured by comparison with the best.

    Raises
    ------
    UnheardError
        When matplotlib is not installed.
    """
    encoders = list(dict.fromkeys(result.encoder for result in results))[::-1]
    tasks = list(dict.fromkeys(result.task for result in results))
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, grid = new_figure(
        1.6 + 2.1 * columns, rows * (0.8 + 0.17 * len(encoders)) + 0.4, rows, columns, sharey=True
    )
    for axes, task in zip(grid.flat, tasks, strict=False):
        _panel(axes, [result for result in results if result.task == task], encoders)
    for axes in grid.flat[len(tasks) :]:
        axes.set_visible(False)
    handles = {
        name: handle for axes in grid.flat for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend([handles[name] for name in COLOURS if name in handles], [name for name in COLOURS if name in handles],
                  loc="outside upper center", ncols=3, frameon=False, fontsize=FONT)  # fmt: skip
    return figure


def _panel(axes: Axes, results: Sequence[Result], encoders: list[str]) -> None:
    best, near, better = best_of(results), near_best(results), "lower" if results[0].smaller else "higher"
    for result in results:
        standing = "the best" if result is best else "≈ may be as good" if result.encoder in near else "below"
        ends = [[max(0.0, result.value - result.low)], [max(0.0, result.high - result.value)]]
        position = encoders.index(result.encoder)
        axes.errorbar(
            result.value,
            position,
            xerr=ends,
            fmt="o",
            markersize=3.5,
            linewidth=1.2,
            color=COLOURS[standing],
            label=standing,
        )
    axes.set_yticks(range(len(encoders)), encoders)
    axes.set(ylim=(-0.6, len(encoders) - 0.4), xlabel=f"{results[0].score}, {better} is better")
    axes.grid(axis="y", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    caption(axes, results[0].task)
