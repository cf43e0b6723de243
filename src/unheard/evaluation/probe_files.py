"""A probe report as files: probe.json, probe.md and the bar chart probe.png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unheard.errors import DataError, missing_extra
from unheard.evaluation.probe import HEADS, ProbeReport, Score

COLOURS = {"linear": "#2b6cb0", "knn": "#dd8b3d"}
TITLES = {"linear": "linear", "knn": "nearest neighbours"}


def write(report: ProbeReport, out_dir: Path | str) -> list[Path]:
    """Write a report into a folder, each file under a temporary name first, and give the paths.

    Raises
    ------
    DataError
        When the folder cannot be written.
    UnheardError
        When matplotlib is not installed.
    """
    out = Path(out_dir)
    picture = figure(report)
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = {name: out / f"{name}.part" for name in ("probe.json", "probe.md", "probe.png")}
        unfinished["probe.json"].write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        unfinished["probe.md"].write_text(report.table(), encoding="utf-8")
        picture.savefig(unfinished["probe.png"], dpi=150, format="png")
        return [path.replace(out / name) for name, path in unfinished.items()]
    except OSError as error:
        raise DataError(f"cannot write the probe's report to {out}: {error}") from error


def figure(report: ProbeReport) -> Any:
    """Bars of the first metric with intervals, one row an embedding, chance as a line: a matplotlib Figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "view") from error
    metric = next(iter(report.chance))
    names = list(dict.fromkeys(score.embedding for score in report.scores))[::-1]
    picture = Figure(figsize=(7, 1.2 + 0.55 * len(names)), layout="constrained")
    axes = picture.add_subplot()
    for shift, head in zip((0.19, -0.19), HEADS, strict=True):
        found = {score.embedding: score for score in report.scores if score.head == head and score.metric == metric}
        _bars(axes, [found[name] for name in names], shift, head)
    axes.axvline(report.chance[metric], color="0.4", linestyle="--", linewidth=1, label="chance")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1.08), xlabel=f"{metric}, {report.tested} test clips, 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside upper center", ncols=3, frameon=False)
    return picture


def _bars(axes: Any, scores: list[Score], shift: float, head: str) -> None:
    """Bars of one head, the value behind each interval's end."""
    places = [place + shift for place in range(len(scores))]
    means = [score.mean for score in scores]
    ends = [[score.mean - score.low for score in scores], [score.high - score.mean for score in scores]]
    ends = [[max(0.0, end) for end in side] for side in ends]
    axes.barh(places, means, 0.36, xerr=ends, color=COLOURS[head], label=TITLES[head], error_kw={"elinewidth": 1, "capsize": 2})
    for place, score in zip(places, scores, strict=True):
        axes.text(max(score.high, score.mean) + 0.01, place, f"{score.mean:.3f}", va="center", fontsize=8)
