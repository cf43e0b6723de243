"""The page of a probe: what the score is, what it is worth, which classes fail, whether more labels help, and a map that sounds."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unheard.errors import CheckpointError, DataError
from unheard.evaluation.probe import HEADS
from unheard.evaluation.probe_files import read_report
from unheard.evaluation.probe_report import Difference
from unheard.progress import Track, silent
from unheard.view.page import STYLE, picture, write_page
from unheard.view.probe_sounds import LIMITS, embedded

PAGE_STYLE = """
.box { border-left: .3rem solid #2b6cb0; background: #2b6cb018; padding: .6rem 1rem; margin: 1rem 0 } .box p { margin: .3rem 0 }
.warn { border-color: #c53030; background: #c5303018 } .big { font-size: 1.25rem } .weak td { color: #c53030 }
.scroll { overflow: auto; max-height: 32rem } svg { width: 100%; border: 1px solid #8884; border-radius: .3rem }
circle { cursor: pointer; stroke: none; opacity: .85 } circle.wrong { stroke: currentColor; stroke-width: 2 } circle.mute { opacity: .4 }
circle.dim { opacity: .06 } circle.playing, circle:focus { stroke: #2b6cb0; stroke-width: 5; outline: none }
button { font: inherit; font-size: .85rem; margin: .1rem; padding: .1rem .6rem; border: 1px solid #8888; border-radius: 1rem;
  background: none; color: inherit; cursor: pointer } button[aria-pressed=true] { background: #2b6cb0; color: white }
#map-legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .35rem }
#map-told { min-height: 1.6rem }
"""
MAP = """
<h2>Map: click a point to hear it</h2>
<p><button data-plane=tsne>t-SNE</button><button data-plane=pca>PCA</button>
<label><input type=checkbox id=map-wrong> only what was told wrong</label></p>
<p id=map-told>Point at a clip to see its name.</p><svg id=map viewBox='0 0 800 520'></svg><p id=map-legend></p>
"""
WEAK = 0.5  # recall below which a class is marked; our choice


def write_probe_page(folder: Path, track: Track = silent) -> Path:
    """Write ``report.html`` into a probe's folder, from the files in it and the sounds that its ``map.csv`` names.

    Raises
    ------
    CheckpointError
        When the folder holds no probe.
    DataError
        When its files cannot be read.
    """
    file = folder / "probe.json"
    if not file.is_file():
        raise CheckpointError(f"there is no probe at {folder}; give the folder that unheard probe wrote")
    try:
        report = read_report(file)
        rows = _read(folder / "map.csv")
        parts = [*_top(report), *_scores(report, folder), *_classes(report, folder), *_curve(report, folder), *_layers(report, folder)]
        parts += [*_map(report, rows, track), *_how(report)]
    except OSError as error:
        raise DataError(f"the page of {folder} cannot be made ({error}); probe again") from error
    except (ValueError, KeyError) as error:
        raise DataError(f"{folder} holds a probe of another version, or a damaged one ({error!r}); probe again") from error
    title = f"Probe: {folder.resolve().name}"
    return write_page(folder / "report.html", title, "".join(parts), STYLE + PAGE_STYLE)


def _top(report: dict[str, Any]) -> Iterator[str]:
    metric, about = report["metric"], report["about"]
    score = _linear(report, "model")
    facts = ", ".join(f"{key} {html.escape(value)}" for key, value in about.items())
    yield f"<h1>How much of these labels does the embedding know?</h1><p class=lead>{facts}</p><div class=box>"
    yield f"<p class=big><b>{metric} {score['mean']:.3f}</b>, 95 % interval {score['low']:.3f} to {score['high']:.3f}; "
    yield f"guessing gives {report['chance'][metric]:.3f}.</p>"
    yield f"<p>A linear head on frozen vectors; {report['tested']} of {report['clips']} clips tested, {len(report['classes'])} classes.</p>"
    for row in sorted((row for row in report["differences"] if row["metric"] == metric), key=lambda row: HEADS.index(row["head"])):
        words = _verdict(row, "better", "worse")
        yield f"<p>{row['head']} head, compared with the {html.escape(row['other'])}: {words}</p>"
    if report["gain"]:
        words = _verdict(report["gain"], "better, so more may help further", "worse")
        yield f"<p>All training labels, compared with half of them: {words}</p>"
    yield "</div>"
    if report["warnings"]:
        yield "<div class='box warn'><p><b>Read this before you trust the score</b></p>"
        yield "".join(f"<p>{html.escape(warning)}</p>" for warning in report["warnings"]) + "</div>"


def _verdict(row: dict[str, Any], better: str, worse: str) -> str:
    found = Difference(**row)
    word = {"better": better, "worse": worse}.get(found.verdict, found.verdict)
    return html.escape(f"{{}} ({found.mean:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}, p {found.p_text}).").format(
        f"<b>{word}</b>"
    )


def _scores(report: dict[str, Any], folder: Path) -> Iterator[str]:
    yield "<h2>Scores</h2>" + picture(folder / "probe.png", f"{report['metric']} of each embedding and head with its interval")
    cells = [(s["embedding"], s["head"], s["metric"], _3(s["mean"]), f"{_3(s['low'])} to {_3(s['high'])}") for s in report["scores"]]
    cells += [("(guessing)", "", metric, _3(value), "") for metric, value in report["chance"].items()]
    yield _table(("embedding", "head", "metric", "score", "95 % interval"), cells)


def _classes(report: dict[str, Any], folder: Path) -> Iterator[str]:
    rows = [row for row in report["per_class"] if (row["embedding"], row["head"]) == ("model", "linear")]
    rows.sort(key=lambda row: row["f1"])
    weak = [row["name"] for row in rows if row["clips"] and row["recall"] < WEAK]
    yield "<h2>Which classes fail</h2><p>The linear head of the model, worst first. "
    yield f"Fewer than half are found of: {html.escape(', '.join(weak))}.</p>" if weak else "At least half of every class is found.</p>"
    header = ("class", "clips", "precision", "recall", "F1", "average precision")
    measured = ("precision", "recall", "f1", "average_precision")
    cells = [(str(row["name"]), str(row["clips"]), *(_3(row[key]) for key in measured)) for row in rows]
    yield f"<div class=scroll>{_table(header, cells, marked=set(weak))}</div>"
    if (folder / "confusion.png").is_file() and report["confusion"]:
        yield picture(folder / "confusion.png", "which class (row) is taken for which (column); counts of tested clips")


def _curve(report: dict[str, Any], folder: Path) -> Iterator[str]:
    if report["curve"]:
        yield "<h2>Would more labels help?</h2>"
        band = "; the band is the range over the seeds" if len(report["scores"][0]["runs"]) > 1 else ""
        yield picture(folder / "curve.png", f"linear head on shares of the training clips{band}")


def _layers(report: dict[str, Any], folder: Path) -> Iterator[str]:
    if report["layers"]:
        yield "<h2>Layers</h2>" + picture(folder / "layers.png", "each layer alone, and a gate learned on training clips")
        yield "<p>Choosing the best point of this figure would be choosing by test clips; the gate chose on training clips alone.</p>"


def _map(report: dict[str, Any], rows: list[dict[str, str]], track: Track) -> Iterator[str]:
    mixed = np.random.default_rng(0).permutation(len(rows)).tolist()
    order = sorted(mixed, key=lambda at: rows[at]["right"] != "0")  # what was told wrong is worth hearing first
    clips = [(at, Path(rows[at]["path"]), _seconds(rows[at]["start"]), _seconds(rows[at]["end"])) for at in order]
    sounds = embedded(clips, track)
    points = [_point(row, sounds.get(at)) for at, row in enumerate(rows)]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["label"]] = counts.get(row["label"], 0) + 1
    data = json.dumps({"classes": sorted(counts, key=lambda name: (-counts[name], name)), "points": points}).replace("</", "<\\/")
    yield MAP
    yield f"<p class=lead>{len(rows)} of {report['clips']} clips; {len(sounds)} sounds lie in this page ({LIMITS}); pale points are not "
    yield "among them. A ring: tested and told wrong. In t-SNE neighbours mean something, distances and sizes of clouds do not.</p>"
    yield f"<script type=application/json id=map-data>{data}</script>"
    yield f"<script>{Path(__file__).with_name('probe_map.js').read_text(encoding='utf-8')}</script>"


def _point(row: dict[str, str], sound: str | None) -> dict[str, Any]:
    path = Path(row["path"])
    return {
        "name": f"{path.parent.name}/{path.name}",
        "label": row["label"],
        "said": row["said"],
        "right": row["right"] == "1",
        "pca": [float(row["pca_x"]), float(row["pca_y"])],
        "tsne": [float(row["tsne_x"]), float(row["tsne_y"])],
        "sound": sound,
        "file": path.as_uri() if sound is None and path.is_file() else None,
    }


def _how(report: dict[str, Any]) -> Iterator[str]:
    runs = len(report["scores"][0]["runs"])
    many = f"means over {runs} runs" if runs > 1 else "of one run"
    drawn = "whole groups of tested clips" if report["drawn"] == "groups" else "the tested clips"
    yield "<h2>How this was measured</h2><p>Vectors are frozen and standardised on the training clips. The linear head is L2-regularised "
    yield "logistic regression; how strongly, and when the network with one hidden layer stops, is chosen by validation clips, or by folds "
    yield "of the training clips, of the learning curve by those of its share. "
    yield f"Scores are {many}. Intervals draw {drawn} again (bias-corrected bootstrap); a difference draws the same for both. "
    yield "They do not show how a score would change with other training clips. The random encoder is the same network with fresh weights. "
    yield "Classes, confusions and the map show the first run. The numbers lie beside this page, in CSV files and in probe.json.</p>"


def _linear(report: dict[str, Any], embedding: str) -> dict[str, Any]:
    wanted = (embedding, "linear", report["metric"])
    for score in report["scores"]:
        if (score["embedding"], score["head"], score["metric"]) == wanted:
            return dict(score)
    raise KeyError(embedding)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], marked: set[str] | None = None) -> str:
    lines = (f"<tr{' class=weak' if row[0] in (marked or ()) else ''}><td>{'<td>'.join(html.escape(cell) for cell in row)}" for row in rows)
    return f"<table><tr><th>{'<th>'.join(header)}{''.join(lines)}</table>"


def _3(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _seconds(text: str) -> float | None:
    return float(text) if text else None


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
