"""The result of a sweep: a table with intervals and a figure of score against compute."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student

from benchmarks.ablation.arms import ARMS
from benchmarks.ablation.sweep import LOG_MEL, UNTRAINED, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = {"views": ".0f", "loss": ".3f", "diagnostics/effective_rank": ".1f"}
"""Numbers of the last row of a journal, with their formats."""


def final(rows: list[Row]) -> dict[str, dict[int, dict[str, float]]]:
    """Scores of the last step: arm -> seed -> task."""
    last: dict[tuple[str, int], int] = defaultdict(int)
    for row in rows:
        last[row["arm"], row["seed"]] = max(last[row["arm"], row["seed"]], row["step"])
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["step"] == last[row["arm"], row["seed"]]:
            found[row["arm"]][row["seed"]][row["task"]] = row["score"]
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Mean over seeds and half of its 95 % interval (Student's t); nan for one seed."""
    if len(values) < 2:
        return float(np.mean(values)), math.nan
    return float(np.mean(values)), float(
        student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    )


def table(rows: list[Row], last: dict[str, list[Row]]) -> str:
    """Markdown: each arm with its mean over tasks, and each task; intervals are over seeds.

    `last` has the last row of the journal of each run of an arm.
    """
    scores, tasks = final(rows), sorted({row["task"] for row in rows})
    seconds = {arm: [row["seconds"] for row in rows if row["arm"] == arm] for arm in scores}
    lines = [
        f"| arm | supervision | seeds | seconds | views | loss | rank | mean | {' | '.join(tasks)} |",
        "|---" * (8 + len(tasks)) + "|",
    ]
    for arm, seeds in sorted(scores.items(), key=lambda item: item[0] in ARMS):
        means = [float(np.mean(list(found.values()))) for found in seeds.values()]
        cells = [shown([found[task] for found in seeds.values() if task in found]) for task in tasks]
        supervision = ARMS[arm].supervision if arm in ARMS else "nothing"
        journal = (f"{mean_of(last.get(arm, []), key):{form}}" for key, form in COLUMNS.items())
        lines.append(
            f"| {arm} | {supervision} | {len(seeds)} | {max(seconds[arm]):.0f} | {' | '.join(journal)} |"
            f" {shown(means)} | {' | '.join(cells)} |"
        )
    note = (
        "Scores are linear probes of mean-pooled features, the interval is 95 % over seeds: two that overlap do not"
        " differ."
    )
    return "\n".join([*lines, "", note, ""])


def mean_of(rows: list[Row], key: str) -> float:
    """The mean over runs of a number of the journal; nan where a run has none."""
    return float(np.mean([row.get(key, math.nan) for row in rows])) if rows else math.nan


def shown(values: list[float]) -> str:
    """A mean with its interval."""
    mean, half = interval(values)
    return f"{mean:.3f}" if math.isnan(half) else f"{mean:.3f} ± {half:.3f}"


def figure(rows: list[Row]) -> Figure:
    """Mean score over tasks against seconds of training, a line for each arm, a dot for each seed."""
    from unheard.view.axes import new_figure

    drawn, grid = new_figure(9.0, 5.0, 1, 1)
    axes = grid[0, 0]
    for number, arm in enumerate(name for name in ARMS if any(row["arm"] == name for row in rows)):
        points: dict[int, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in (row for row in rows if row["arm"] == arm):
            points[row["step"]][row["seed"]].append(row)
        places = [
            (
                np.mean([r[0]["seconds"] for r in seeds.values()]),
                [np.mean([row["score"] for row in r]) for r in seeds.values()],
            )
            for _, seeds in sorted(points.items())
        ]
        colour = f"C{number % 10}"
        axes.plot(
            [at for at, _ in places], [np.mean(values) for _, values in places], color=colour, marker="o", label=arm
        )
        for at, values in places:
            axes.scatter([at] * len(values), values, color=colour, s=12, alpha=0.5)
    for name, style in ((UNTRAINED, "--"), (LOG_MEL, ":")):
        level = [row["score"] for row in rows if row["arm"] == name]
        if level:
            axes.axhline(float(np.mean(level)), color="grey", linestyle=style, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("linear probe, mean over tasks")
    axes.legend(frameon=False)
    return drawn


def write(rows: list[Row], last: dict[str, list[Row]], out: Path) -> None:
    """``table.md`` and ``score.png``."""
    (out / "table.md").write_text(table(rows, last))
    figure(rows).savefig(out / "score.png", dpi=150)
