"""Draw the figure of docs/results.md from the tables of that page: scores of `--mode robust`, one panel per task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PAGE = Path(__file__).with_name("results.md")
IMAGE = Path(__file__).parent / "images" / "results.png"
NEW, OLD = "## unheard-tiny, `--mode robust`, three seeds", "## `--mode robust`, three seeds"
"""Sections with the scores: a task in each row, and an encoder in each row."""

OURS, OTHERS, TEACHERS = "#d95f02", "#666666", "#7570b3"
ROWS = {
    "unheard-tiny, layers 3 and 12": OURS,
    "unheard-tiny, default": OURS,
    "random, layers 3 and 12": OTHERS,
    "msm-mae": OTHERS,
    "log-mel": OTHERS,
    "YAMNet (teacher)": TEACHERS,
    "resemblyzer (teacher)": TEACHERS,
    "CREPE tiny (teacher)": TEACHERS,
}
"""Encoders of the figure, from top to bottom, with their colours."""


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval, which is empty where the page has none."""

    value: float
    interval: tuple[float, ...] = ()


def main() -> None:
    """Write the figure."""
    mpl.use("Agg")
    scores = read_scores(PAGE.read_text(encoding="utf-8"))
    figure = Figure(figsize=(11, 6.6), dpi=110, layout="constrained")
    panels = figure.subplots(3, 4, sharey=True)
    for axes, (task, row) in zip(panels.flat, scores.items(), strict=True):
        draw(axes, task, row)
    figure.savefig(IMAGE)


def read_scores(page: str) -> dict[str, dict[str, Score]]:
    """Return the scores of the page, by task and encoder. Intervals of other encoders come from the older table."""
    new, older = tables(page, NEW)[0], tables(page, OLD)
    intervals = {
        (row[0].partition(" (")[0], task): score(cell).interval
        for header, *rows in older
        for row in rows
        for task, cell in zip(header[1:], row[1:], strict=True)
    }
    found = {}
    for task, *cells in new[1:]:
        row = {name: score(cell) for name, cell in zip(new[0][1:], cells, strict=True)}
        for name, value in row.items():
            if not value.interval:
                row[name] = Score(value.value, intervals.get((name.partition(" (")[0], task), ()))
        found[task] = {name: row[name] for name in ROWS}
    return found


def tables(page: str, heading: str) -> list[list[list[str]]]:
    """Return the tables of a section, as lists of cells, without the lines below their headers."""
    section = page.partition(f"{heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    cells = [[[each.strip() for each in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks]
    return [[table[0], *table[2:]] for table in cells]


def score(cell: str) -> Score:
    """Return the numbers of a cell such as ``0.891 [0.852, 0.914]``."""
    value, *ends = (float(number) for number in re.findall(r"\d\.\d+", cell))
    return Score(value, tuple(ends))


def draw(axes: Axes, task: str, row: dict[str, Score]) -> None:
    """Draw the scores of a task."""
    best = max(each.value for each in row.values())
    for place, (name, each) in enumerate(row.items()):
        if each.interval:
            axes.hlines(place, *each.interval, color=ROWS[name], linewidth=1.6)
        axes.plot(each.value, place, "o", color=ROWS[name], markersize=5)
    axes.axvline(best, color="#bbbbbb", linewidth=0.7, zorder=0)
    axes.set_title(task, fontsize=9)
    axes.set_yticks(range(len(row)), list(row), fontsize=8)
    axes.set_ylim(len(row) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
