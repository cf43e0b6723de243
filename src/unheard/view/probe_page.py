"""Report of a probe: scores, comparisons, per-class results, learning curve, and a scatter plot with sounds."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import UndefinedError

from unheard.bootstrap import interval_text
from unheard.errors import CheckpointError, DataError
from unheard.evaluation.difference import Difference
from unheard.evaluation.probe.files import read_report
from unheard.evaluation.probe.probe import ALL_HEADS, main_head
from unheard.progress import Track, silent
from unheard.view.page import write_page
from unheard.view.probe_sounds import LIMITS, embedded

WEAK = 0.5  # recall below which a class is marked; our choice


def write_probe_page(folder: Path, track: Track = silent) -> Path:
    """Write ``report.html`` from the files in the folder of a probe and the sounds listed in ``map.csv``.

    Raises
    ------
    CheckpointError
        When the folder is not a probe.
    DataError
        When its files cannot be read.
    """
    file = folder / "probe.json"
    if not file.is_file():
        raise CheckpointError(f"there is no probe at {folder}; give the folder that unheard probe wrote")
    try:
        report = read_report(file)
        values = {**_summary(report), **_classes(report), **_map(report, _read(folder / "map.csv"), track)}
        title = f"Probe: {folder.resolve().name}"
        return write_page(folder / "report.html", "probe.html", title=title, folder=folder, report=report, **values)
    except OSError as error:
        raise DataError(f"the report of {folder} cannot be written ({error}); run the probe again") from error
    except (ValueError, KeyError, UndefinedError) as error:
        raise DataError(
            f"{folder} holds a probe of another version, or a damaged one ({error!r}); run the probe again"
        ) from error


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return the main score, the comparisons, and the rows of the score table."""
    differences = [Difference(**row) for row in report["differences"] if row["metric"] == report["metric"]]
    return {
        "score": _main(report),
        "differences": sorted(differences, key=lambda row: ALL_HEADS.index(row.head)),
        "label_doubling_gain": Difference(**report["label_doubling_gain"]) if report["label_doubling_gain"] else None,
        "scores": [
            *score_rows(report),
            *(("(chance)", "", metric, value, "") for metric, value in report["chance"].items()),
        ],
        "few_shot": [(s["embedding"], s["shots"], len(s["draws"]), s["mean"], s["std"]) for s in report["few_shot"]],
        "runs": len(report["scores"][0]["runs"]),
    }


def score_rows(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return embedding, head, metric, score and interval of every score of a probe's report."""
    return [
        (s["embedding"], s["head"], s["metric"], s["mean"], interval_text(s["low"], s["high"], "{:.3f} to {:.3f}"))
        for s in report["scores"]
    ]


def _classes(report: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of the class table, lowest F1 first, and the classes with low recall."""
    rows = [row for row in report["per_class"] if (row["embedding"], row["head"]) == ("model", _main(report)["head"])]
    rows.sort(key=lambda row: row["f1"])
    columns = ("name", "clips", "precision", "recall", "f1", "average_precision")
    weak = [row["name"] for row in rows if row["clips"] and row["recall"] < WEAK]
    return {"classes": [tuple(row[key] for key in columns) for row in rows], "weak": weak}


def _map(report: dict[str, Any], rows: list[dict[str, str]], track: Track) -> dict[str, Any]:
    """Return the points of the scatter plot, with as many sounds as fit, incorrect predictions first."""
    mixed = np.random.default_rng(0).permutation(len(rows)).tolist()
    order = sorted(mixed, key=lambda at: rows[at]["right"] != "0")
    clips = [(at, Path(rows[at]["path"]), _seconds(rows[at]["start"]), _seconds(rows[at]["end"])) for at in order]
    sounds, counts = embedded(clips, track), Counter(row["label"] for row in rows)
    return {
        "points": [_point(row, sounds.get(at)) for at, row in enumerate(rows)],
        "class_order": sorted(counts, key=lambda name: (-counts[name], name)),
        "sounds": len(sounds),
        "limits": LIMITS,
    }


def _point(row: dict[str, str], sound: str | None) -> dict[str, Any]:
    path = Path(row["path"])
    return {
        "name": f"{path.parent.name}/{path.name}",
        "label": row["label"],
        "predicted": row["predicted"],
        "right": row["right"] == "1",
        "pca": [float(row["pca_x"]), float(row["pca_y"])],
        "tsne": [float(row["tsne_x"]), float(row["tsne_y"])],
        "sound": sound,
        "file": path.as_uri() if sound is None and path.is_file() else None,
    }


def _main(report: dict[str, Any]) -> dict[str, Any]:
    """Return the score of the model with the head of the per-class results."""
    found = [dict(s) for s in report["scores"] if (s["embedding"], s["metric"]) == ("model", report["metric"])]
    head = main_head([score["head"] for score in found])
    return next(score for score in found if score["head"] == head)


def _seconds(text: str) -> float | None:
    return float(text) if text else None


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
