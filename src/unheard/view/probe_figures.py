"""Figures of a probe: scores, confusion matrix, learning curve, layers and scatter plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.evaluation.probe.layers import LAYER_MIX
from unheard.evaluation.probe.probe import ALL_HEADS
from unheard.evaluation.probe.projection import Projection2D
from unheard.evaluation.probe.report import LayerScore, ProbeReport, Score
from unheard.view.axes import FONT, caption, new_figure, save
from unheard.view.finetuned import figure as confusion_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "linear": "#2b6cb0",
    "knn": "#dd8b3d",
    "mlp": "#5a9a5a",
    "cgp": "#8a63b5",
    "prototypes": "#c44e52",
    "attentive": "#7f7f7f",
}
TITLES = {
    "linear": "linear",
    "knn": "k nearest neighbours",
    "mlp": "MLP",
    "cgp": "convex gated probe",
    "prototypes": "binarised prototypes",
    "attentive": "attentive",
}
MOST_SQUARE = 40  # maximum number of classes for a confusion matrix; our choice
MOST_PAIRS = 25  # number of confused pairs listed if there are more classes; our choice
MOST_COLOURS = 20  # maximum number of colours for classes; our choice


def draw(report: ProbeReport, projection: Projection2D, labels: Sequence[str], out: Path) -> None:
    """Write all figures of a report into ``out``, and remove those of an older report.

    Raises
    ------
    UnheardError
        When matplotlib is not installed, or a figure cannot be written.
    """
    save(scores(report), out / "probe.png")
    save(scatter_projection(projection, labels), out / "map.png")
    others = {"confusion": (report.confusion, confusions), "curve": (report.curve, curve)}
    for name, (values, plot) in (others | {"layers": (report.layers, layers)}).items():
        (out / f"{name}.png").unlink(missing_ok=True)
        if values:
            save(plot(report), out / f"{name}.png")


def scores(report: ProbeReport) -> Figure:
    """Plot the main metric with intervals, one group of bars per embedding, and the chance level as a line."""
    found = [score for score in report.scores if score.metric == report.metric]
    names = list(dict.fromkeys(score.embedding for score in found))[::-1]
    heads = [head for head in ALL_HEADS if any(score.head == head for score in found)]
    width = 0.8 / len(heads)
    picture, grid = new_figure(7, 1.2 + 0.25 * len(heads) * len(names), 1, 1)
    axes = grid[0, 0]
    for index, head in enumerate(heads):
        shown = [score for score in found if score.head == head]
        places = [
            names.index(score.embedding) + (0.4 - width * (index + 0.5)) * (score.embedding != LAYER_MIX)
            for score in shown
        ]
        _bars(axes, shown, places, width, head)
    _chance(axes, report, axes.axvline)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1.08), xlabel=f"{report.metric}, {report.tested} test clips, 95 % intervals")
    picture.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=FONT)
    return picture


def confusions(report: ProbeReport) -> Figure:
    """Plot the confusion matrix, or the most frequent confusions if there are too many classes."""
    if len(report.classes) <= MOST_SQUARE:
        return confusion_figure(report.confusion, report.classes)
    counts = np.array(report.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [
        (true, predicted)
        for true, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[true, predicted]
    ]
    picture, grid = new_figure(7, 1 + 0.2 * len(pairs), 1, 1)
    axes = grid[0, 0]
    axes.barh(range(len(pairs)), [counts[pair] for pair in pairs], color=COLOURS["linear"])
    axes.set_yticks(
        range(len(pairs)),
        [f"{report.classes[true]} predicted as {report.classes[predicted]}" for true, predicted in pairs],
    )
    axes.invert_yaxis()
    axes.set_xlabel(f"clips; the {len(pairs)} most frequent confusions of {len(report.classes)} classes")
    return picture


def curve(report: ProbeReport) -> Figure:
    """Plot the main metric over the number of training clips, with the range over the runs as a band."""
    picture, grid = new_figure(6, 3.2, 1, 1)
    axes = grid[0, 0]
    for name in dict.fromkeys(point.embedding for point in report.curve):
        points = [point for point in report.curve if point.embedding == name]
        clips = [point.clips for point in points]
        line = axes.plot(clips, [point.mean for point in points], marker="o", markersize=3, label=name)[0]
        axes.fill_between(
            clips, [point.low for point in points], [point.high for point in points], color=line.get_color(), alpha=0.2
        )
    _chance(axes, report, axes.axhline)
    axes.set_xscale("log")
    axes.set_xticks(clips, [f"{count:.0f}" for count in clips])
    axes.minorticks_off()
    axes.set(xlabel="training clips", ylabel=report.metric)
    picture.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=FONT)
    return picture


def layers(report: ProbeReport) -> Figure:
    """Plot the score of each layer, compared with the baselines, and the learned layer weights."""
    picture, (top, bottom) = new_figure(7, 4.6, 2, 1, sharex=True, height_ratios=(2, 1))
    above, below = top[0], bottom[0]
    numbers = [row.layer for row in report.layers]
    means = np.array([row.mean for row in report.layers])
    ends = np.array([_reach(row) for row in report.layers]).T
    above.errorbar(numbers, means, ends, fmt="o", capsize=2, markersize=4, color=COLOURS["linear"], label="one layer")
    compared = [
        score
        for score in report.scores
        if score.head == "linear" and score.metric == report.metric and score.embedding != "model"
    ]
    for number, score in enumerate(compared):
        style, colour = ("-", "tab:red") if score.embedding == LAYER_MIX else ("--", f"C{number + 1}")
        above.axhline(
            score.mean, linestyle=style, color=colour, linewidth=1.2, label=f"{score.embedding} {score.mean:.3f}"
        )
    picture.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=FONT - 1)
    above.set_ylabel(report.metric)
    weights = np.array([row.weight for row in report.layers])
    reach = np.maximum(
        [weights - [row.least for row in report.layers], [row.most for row in report.layers] - weights], 0
    )
    below.bar(numbers, weights, yerr=reach, color="tab:red", alpha=0.7, error_kw={"elinewidth": 1})
    below.axhline(1 / len(numbers), color="0.4", linestyle=":", linewidth=1)
    below.set(xlabel="layer", ylabel="layer weight", xticks=numbers)
    return picture


def scatter_projection(projection: Projection2D, labels: Sequence[str]) -> Figure:
    """Plot the PCA and t-SNE projections of clips, with a colour for each of the most frequent classes.

    Parameters
    ----------
    projection : Projection2D
    labels : sequence of str
        Labels of the projected clips.
    """
    picture, grid = new_figure(9, 4.2, 1, 2)
    names = sorted(set(labels), key=lambda name: (-labels.count(name), name))
    of = np.array(labels)
    for axes, points, title in zip(
        grid[0],
        (projection.pca, projection.tsne),
        (f"PCA, {projection.variance:.0%} of the variance", "t-SNE, distances are not meaningful"),
        strict=True,
    ):
        for number, name in enumerate(names):
            subset, many = points[of == name], number >= MOST_COLOURS
            colour = "0.7" if many else f"C{number}" if len(names) <= 10 else _palette(number)
            axes.scatter(
                subset[:, 0], subset[:, 1], s=6, color=colour, zorder=1 if many else 2, label=None if many else name
            )
        caption(axes, title)
        axes.set(xticks=[], yticks=[])
    handles, shown = grid[0, 0].get_legend_handles_labels()
    picture.legend(handles, shown, loc="outside lower center", ncols=5, fontsize=FONT - 1, frameon=False)
    return picture


def _palette(number: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab20"](number % MOST_COLOURS)


def _bars(axes: Axes, found: list[Score], places: list[float], width: float, head: str) -> None:
    """Plot the bars of one head, with the value after the interval."""
    means = [score.mean for score in found]
    ends = np.array([_reach(score) for score in found]).T
    axes.barh(
        places,
        means,
        width * 0.95,
        xerr=ends,
        color=COLOURS[head],
        label=TITLES[head],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    for height, score, reach in zip(places, found, ends[1], strict=True):
        axes.text(score.mean + np.nan_to_num(reach) + 0.01, height, f"{score.mean:.3f}", va="center", fontsize=FONT)


def _reach(score: Score | LayerScore) -> tuple[float, float]:
    """Return the distances of a score to the ends of its interval; NaN, which is not drawn, if there is none."""
    if score.low is None or score.high is None:
        return np.nan, np.nan
    return max(0.0, score.mean - score.low), max(0.0, score.high - score.mean)


def _chance(axes: Axes, report: ProbeReport, line: Any) -> None:
    line(report.chance[report.metric], color="0.4", linestyle="--", linewidth=1, label="chance level")
    axes.spines[["top", "right"]].set_visible(False)
