"""The page of an evaluation shows every task, and who is best beyond the noise."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from unheard.evaluation.hear.results import evaluation_table
from unheard.evaluation.report import Report, Result
from unheard.view import evaluation_page
from unheard.view.evaluation_page import COLOURS, draw, write_evaluation


def result(task: str, encoder: str, value: float, score: str = "mAP") -> Result:
    replicates = [value - 0.05, value + (0.1 if encoder == "second" else 0.05)] * 100
    ends, smaller = (value - 0.05, value + 0.05), score == "segment_1s_er"
    return Result(task, encoder, "robust", score, value, *ends, {score: value}, [], {}, {}, replicates, smaller)


RESULTS = [
    *(result("rooms-v1", name, value) for name, value in (("first", 0.8), ("second", 0.76), ("third", 0.5))),
    *(result("steps-v1", name, value, "segment_1s_er") for name, value in (("first", 0.8), ("third", 0.3))),
]


def test_points_are_coloured_by_their_standing() -> None:
    rooms, steps = [axes for axes in draw(RESULTS).axes if axes.get_visible()]

    names = [label.get_text() for label in rooms.get_yticklabels()]

    def shown(axes) -> dict[str, str]:
        points = [container[0] for container in axes.containers]
        kinds = {to_hex(colour): kind for kind, colour in COLOURS.items()}
        return {names[round(point.get_ydata()[0])]: kinds[to_hex(point.get_color())] for point in points}

    assert shown(rooms) == {"first": "the best", "second": "≈ may be as good", "third": "below"}
    assert shown(steps) == {"third": "the best", "first": "below"}
    assert (rooms.get_xlabel(), steps.get_xlabel()) == ("mAP, higher is better", "segment_1s_er, lower is better")


def test_the_files_of_an_evaluation(tmp_path: Path) -> None:
    report = Report([*RESULTS, result("rooms-v1", "fourth", math.nan)], [("steps-v1", "fourth", "is <broken>")])
    page = write_evaluation(report, evaluation_table(report), tmp_path / "results-robust").read_text()
    assert "data:image/png;base64," in page and "<b>0.800 [0.750, 0.850]</b>" in page and "is &lt;broken&gt;" in page
    rows = list(csv.DictReader((tmp_path / "results-robust.csv").read_text().splitlines()))
    assert [row["encoder"] for row in rows if row["task"] == "rooms-v1"] == ["first", "second", "third", "fourth"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"results-robust.{kind}" for kind in ("csv", "html", "json", "md", "png")
    ]


def test_without_matplotlib_the_page_has_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_page, "find_spec", lambda name: None)
    page = write_evaluation(
        Report(RESULTS), evaluation_table(Report(RESULTS)), tmp_path / "results-heareval"
    ).read_text()
    assert "<img" not in page and "first" in page
    assert not (tmp_path / "results-heareval.png").exists()
