"""HTML report of a run: scores, curves, figures, sounds and probes in one file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from unheard.bootstrap import interval_text
from unheard.data.corpus import brief
from unheard.errors import DataError
from unheard.evaluation.probe.files import read_report
from unheard.evaluation.reconstruction import ReconstructionError
from unheard.files import read_json
from unheard.progress import duration
from unheard.training.session import read_config
from unheard.view.axes import save
from unheard.view.page import write_page
from unheard.view.probe_page import score_rows
from unheard.view.run import best_probe, curve_figure, read_metrics

MOST_CLASSES = 20  # maximum number of classes listed; our choice


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run folder.

    The report shows the configuration, the reconstruction error compared with interpolation baselines, the training
    curves, all figures and sounds in ``figures/``, and all probes in folders below the run. For a fine-tuned run, it
    also shows the scores and per-class results.

    Raises
    ------
    CheckpointError
        When the folder is not a run.
    DataError
        When the run has no metrics yet.
    """
    config = read_config(run)
    tuned = "members" in config
    trained = (
        [folder for folder in (run, *sorted(run.glob("members/*"))) if (folder / "metrics.jsonl").is_file()]
        if tuned
        else [run]
    )
    for folder in trained:
        save(curve_figure(folder), folder / "figures" / "curves.png")
    rows = read_metrics(trained[0]) if trained else []
    if not rows:
        raise DataError(f"{run} has no metrics yet; let it train for some steps first")
    return write_page(
        run / "report.html",
        "run.html",
        title=run.resolve().name,
        lead=_lead(config["recipe"], rows[-1], config["total"]),
        facts=_tuned_facts(config, rows) if tuned else _facts(config, rows),
        trained=trained,
        figures=_figures(run),
        figures_title="Confusion matrix" if tuned else "Reconstruction of masked patches",
        probes=[(file.parent, read_report(file)) for file in sorted(run.glob("*/probe.json"))],
        score_rows=score_rows,
        hidden_error=(measured := _stored(run / "hidden_error.json")),
        verdict="" if measured is None else ReconstructionError(**measured).sentences("Train longer."),
        **_scores(run),
    )


def _scores(run: Path) -> dict[str, Any]:
    """Return the scores of a fine-tuned run, if there are any."""
    scores = _stored(run / "scores.json")
    found = interval_text(scores["low"], scores["high"]) if scores else ""
    return {"scores": scores, "interval": found, "rows_of": lambda rows: [list(row.values()) for row in rows]}


def _stored(file: Path) -> dict[str, Any] | None:
    return read_json(file) if file.is_file() else None


def _lead(recipe: dict[str, Any], last: dict[str, Any], total: int) -> str:
    paper = f" ({recipe['paper']})" if recipe["paper"] else ""
    size = f", size {recipe['model']['size']}" if "model" in recipe else ""
    return f"{recipe['name']}{paper}{size}, step {last['step']} of {total}, loss {last.get('loss', math.nan):.4f}"


def _tuned_facts(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    training = config["recipe"]["training"]
    return {
        "model": str(config["model"]),
        "labels": str(config["labels"]),
        "classes": f"{len(config['classes'])}: {', '.join(config['classes'][:MOST_CLASSES])}",
        "models": str(len(config["members"])),
        "trained on": f"{rows[-1]['epoch']:.1f} epochs in batches of {training['batch_size']}, seed {training['seed']}",
    }


def _facts(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    recipe, training = config["recipe"], config["recipe"]["training"]
    model, frontend = recipe["model"], recipe["frontend"]
    speeds = sorted(row["clips_per_second"] for row in rows if "clips_per_second" in row)
    crops = rows[-1]["step"] * training["batch_size"]
    return {
        "data": brief(config["data"]),
        "window": f"{model['frames']} frames, {model['frames'] * frontend['hop_size'] / frontend['sample_rate']:.2f} s",
        "patches": (
            f"{model['patch_size'][0]} mel bands x {model['patch_size'][1]} frames, {_share_hidden(model):.0%} masked"
        ),
        "encoder": f"width {model['embed_dim']}, {model['depth']} blocks, {model['num_heads']} heads",
        "trained on": f"{crops:,} windows, {rows[-1]['epoch']:.1f} epochs, seed {training['seed']}",
        "speed": f"{speeds[len(speeds) // 2]:.0f} windows/s (median)" if speeds else "not measured yet",
        "time": f"{duration(sum(row.get('seconds', 0.0) for row in rows))} of training, over all sessions",
        **_watched(config, rows),
    }


def _watched(config: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the best score on the watched table, if there is one."""
    best = best_probe(rows)
    if best is None:
        return {}
    metric, value, step = best
    start = best_probe(row for row in rows if row["step"] == 0)
    before = "" if start is None else f"; {start[1]:.3f} before the first step"
    table, spent = Path(config["watch"]["table"]).name, sum(row.get("probe/seconds", 0.0) for row in rows)
    text = f"{metric.replace('_', ' ')} {value:.3f} (linear head, step {step}) on {table}{before}"
    return {"best probe": f"{text}; {duration(spent)} for all scores"}


def _share_hidden(model: dict[str, Any]) -> float:
    rows, columns = model.get("mask_ratio_2d") or (model["mask_ratio"], 0)
    return float(1 - (1 - rows) * (1 - columns))


def _figures(run: Path) -> list[Path]:
    """Return the figures and sounds of a run, without the training curves."""
    found = (
        file
        for file in sorted((run / "figures").glob("*"))
        if file.name != "curves.png" and not file.name.startswith(".")
    )
    return [file for file in found if file.suffix in (".png", ".wav")]
