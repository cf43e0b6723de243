"""One HTML page that shows a run: numbers, curves, figures, sounds and probes, all inside the file."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unheard.errors import DataError
from unheard.evaluation.finetuned_summary import interval
from unheard.evaluation.probe_files import read_report
from unheard.files import read_json
from unheard.training.journal import duration
from unheard.training.run import read_config
from unheard.view.axes import save
from unheard.view.page import inline, picture, write_page
from unheard.view.run import curve_figure, read_metrics

MOST_CLASSES = 20  # that are named; our choice


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run folder.

    Shows the configuration, the error on hidden patches beside the simple fill-ins, the training curves, every figure and sound
    in ``figures/``, and every probe report in a folder below the run; of a fine-tuned run its scores and classes.

    Raises
    ------
    CheckpointError
        When the folder holds no run.
    DataError
        When the run has trained no step yet.
    """
    config = read_config(run)
    tuned = "members" in config
    trained = [place for place in (run, *sorted(run.glob("members/*"))) if (place / "metrics.jsonl").is_file()] if tuned else [run]
    for place in trained:
        save(curve_figure(place), place / "figures" / "curves.png")
    rows = read_metrics(trained[0]) if trained else []
    if not rows:
        raise DataError(f"{run} has no metrics yet; let it train for some steps first")
    parts = [f"<h1>{html.escape(run.resolve().name)}</h1><p class=lead>{_lead(config['recipe'], rows[-1], config['total'])}</p>"]
    parts += ["<h2>Run</h2>", _table(_tuned_facts(config, rows) if tuned else _facts(config, rows))]
    parts += _scores(run) if tuned else _hidden(run)
    parts += ["<h2>Training</h2>"]
    parts += [picture(place / "figures" / "curves.png", f"{place.name}: loss, learning rate and speed over the steps") for place in trained]
    parts += _figures(run, "Which classes are taken for which" if tuned else "What it makes of what it did not hear")
    parts += _probes(run)
    return write_page(run / "report.html", run.name, "".join(parts))


def _lead(recipe: dict[str, Any], last: dict[str, Any], total: int) -> str:
    paper = f" ({html.escape(recipe['paper'])})" if recipe["paper"] else ""
    size = f", size {recipe['model']['size']}" if "model" in recipe else ""
    return f"{html.escape(recipe['name'])}{paper}{size}, step {last['step']} of {total}, loss {last.get('loss', math.nan):.4f}"


def _tuned_facts(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    training = config["recipe"]["training"]
    return {
        "model": str(config["model"]),
        "labels": str(config["labels"]),
        "classes": f"{len(config['classes'])}: {', '.join(config['classes'][:MOST_CLASSES])}",
        "models": str(len(config["members"])),
        "trained on": f"{rows[-1]['epoch']:.1f} epochs in batches of {training['batch_size']}, seed {training['seed']}",
    }


def _scores(run: Path) -> Iterator[str]:
    file = run / "scores.json"
    if file.is_file():
        told = read_json(file)
        clips = sum(part["clips"] for part in told["parts"])
        spread = f" &plusmn; {told['spread']:.3f} over {len(told['parts'])} parts" if len(told["parts"]) > 1 else ""
        yield f"<h2>Test clips</h2><p>{told['metric'].replace('_', ' ')} {told['mean']:.3f}{spread}, 95 % interval "
        yield f"{interval(told['low'], told['high'])} on {clips} clips; they chose nothing.</p>"
        yield "".join(f"<p>{html.escape(text)}</p>" for text in told.get("notes", ()))
        columns = list(told["classes"][0])
        cells = (f"<tr><td>{'<td>'.join(_cell(row[name]) for name in columns)}" for row in told["classes"])
        yield f"<table><tr><th>{'<th>'.join(columns)}{''.join(cells)}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))


def _facts(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    recipe, training = config["recipe"], config["recipe"]["training"]
    model, frontend = recipe["model"], recipe["frontend"]
    speed = sorted(row["clips_per_second"] for row in rows)[len(rows) // 2]
    crops = rows[-1]["step"] * training["batch_size"]
    return {
        "data": str(config["data"]),
        "window": f"{model['frames']} frames, {model['frames'] * frontend['hop_size'] / frontend['sample_rate']:.2f} s",
        "patches": f"{model['patch_size'][0]} mel bands x {model['patch_size'][1]} frames, {_share_hidden(model):.0%} hidden",
        "encoder": f"width {model['embed_dim']}, {model['depth']} blocks, {model['num_heads']} heads",
        "trained on": f"{crops:,} windows, {rows[-1]['epoch']:.1f} epochs, seed {training['seed']}",
        "speed": f"{speed:.0f} windows/s (median)",
        "time": f"{duration(sum(row.get('seconds', 0.0) for row in rows))} of training, all sessions added up",
    }


def _share_hidden(model: dict[str, Any]) -> float:
    rows, columns = model.get("mask_axes") or (model["mask_ratio"], 0)
    return float(1 - (1 - rows) * (1 - columns))


def _hidden(run: Path) -> Iterator[str]:
    file = run / "hidden_error.json"
    if file.is_file():
        error = read_json(file)
        yield "<h2>Hidden patches</h2><p>Mean squared error on patches the model did not hear, in units of the variance.</p>"
        yield _table(
            {"this model": f"{error['model']:.3f}", **{f"{name} fill-in": f"{value:.3f}" for name, value in error["fill_in"].items()}}
        )


def _figures(run: Path, title: str) -> Iterator[str]:
    shown = [file for file in sorted((run / "figures").glob("*")) if file.name != "curves.png" and not file.name.startswith(".")]
    if shown:
        yield f"<h2>{title}</h2>"
    for file in shown:
        if file.suffix == ".png":
            yield picture(file, file.stem.replace("-", " "))
        elif file.suffix == ".wav":
            player = f"<audio controls src='{inline(file, 'audio/wav')}'></audio>"
            yield f"<figure>{player}<figcaption>{html.escape(file.stem)}</figcaption></figure>"


def _probes(run: Path) -> Iterator[str]:
    for file in sorted(run.glob("*/probe.json")):
        report = read_report(file)
        yield f"<h2>Probe: {html.escape(file.parent.name)}</h2>"
        counts = f"{report['tested']} of {report['clips']} clips tested, {len(report['classes'])} classes"
        whole = f" <a href='{html.escape(file.parent.name)}/report.html'>All of it</a>." if (file.parent / "report.html").is_file() else ""
        yield f"<p>{counts}; frozen embeddings, 95 % intervals.{whole}</p>"
        rows = "".join(
            f"<tr><td>{html.escape(s['embedding'])}<td>{s['head']}<td>{s['metric']}<td>{s['mean']:.3f}<td>{s['low']:.3f} to {s['high']:.3f}"
            for s in report["scores"]
        )
        yield f"<table><tr><th>embedding<th>probe<th>metric<th>score<th>interval{rows}</table>"
        if (file.parent / "probe.png").is_file():
            yield picture(file.parent / "probe.png", "score of each embedding with its interval; chance as a dashed line")


def _table(rows: dict[str, str]) -> str:
    return "<table>" + "".join(f"<tr><td>{html.escape(key)}<td>{html.escape(value)}" for key, value in rows.items()) + "</table>"
