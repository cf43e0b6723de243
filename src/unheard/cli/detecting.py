"""``unheard predict --spans``: detections with times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unheard.addresses import named
from unheard.cli.shell import emit, log, one_task, planned, status, table
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.api.options import SpreadOptions
    from unheard.finetuning.spans.job import DetectionReport
    from unheard.finetuning.spans.scoring import SpanScores

PRINTED = 50
"""Largest number of detections that are printed; a file has all of them (our choice)."""


def detect(model: str, audio: list[Path], options: Mapping[str, Any], *, strict: bool, json: bool) -> int:
    """Detect the classes of a model in recordings, and print the detections and their scores."""
    from unheard import api

    report = api.detect(model, audio, **options, track=bar)
    if report.task is not None:
        return one_task(report.task, options["out"], "recordings scored", json, strict)
    for note in report.plan.notes:
        log(f"note: {note}")
    emit(_lines(report), _values(report), json)
    return status(len(report.skipped), strict)


def plan_detect(model: str, audio: list[Path], options: Mapping[str, Any], spread: SpreadOptions, json: bool) -> int:
    """Print what a detection in recordings will need."""
    from unheard.embedding.table_jobs.inputs import expand
    from unheard.finetuning.spans.classifier import open_classifier
    from unheard.finetuning.spans.detecting import THRESHOLD, plan_detection
    from unheard.finetuning.spans.tasks import estimate_spans
    from unheard.jobs.engines import Spread

    classifier = open_classifier(model, options["device"], options["precision"])
    threshold = THRESHOLD if options["threshold"] is None else options["threshold"]
    plan = plan_detection(classifier, threshold, window=options["window"], hop=options["hop"])
    return planned(estimate_spans(classifier, expand(audio), plan, Spread(**vars(spread))), json)


def _lines(report: DetectionReport) -> list[str]:
    spans = report.spans
    rows = [(f"{each.start:.2f}", f"{each.end:.2f}", f"{each.score:.3f}", each.label, each.path) for each in spans]
    lines = table(("start", "end", "score", "label", "recording"), rows[:PRINTED]) if rows else []
    if len(rows) > PRINTED:
        lines.append(f"... {len(rows) - PRINTED} more")
    lines += [f"skipped {path}: {reason}" for path, reason in report.skipped]
    seconds = sum(each.seconds for each in report.recordings)
    resumed = f", {report.resumed} of them by an earlier job" if report.resumed else ""
    lines.append(
        f"{len(spans)} detections in {len(report.recordings)} recordings ({seconds / 60:.1f} minutes){resumed};"
        f" windows of {report.plan.window:g} s every {report.plan.hop:g} s"
        f"{'' if report.out is None else f'; written to {named(report.out)}'}"
    )
    if not spans:
        lowest = min(report.thresholds.values())
        lines.append(f"nothing was detected with thresholds of {lowest:g} or more; try a lower --threshold, or auto")
    return [*lines, *([] if report.scores is None else _score_lines(report.scores))]


def _score_lines(scores: SpanScores) -> list[str]:
    low, high = scores.interval
    interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    columns = ("class", "annotated", "detected", "matched", "F1", "precision", "recall", "segment AP")
    rows = [
        (
            name, *(str(count) for count in (each.annotations, each.detections, each.matches)),
            *(_text(value) for value in (each.f1, each.precision, each.recall, each.average_precision)),
        )
        for name, each in scores.classes.items()
    ]  # fmt: skip
    return [
        "",
        *table(columns, rows),
        (
            f"event F1    {_text(scores.f1)}{interval}  precision {_text(scores.precision)}, recall"
            f" {_text(scores.recall)};"
            f" starts within {scores.tolerance:g} s"
        ),
        f"segment mAP {_text(scores.segment_map)}  {scores.segments} segments of 1 s",
        f"{scores.recordings} recordings with annotations",
        *(f"note: {note}" for note in scores.notes),
    ]


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _values(report: DetectionReport) -> dict[str, Any]:
    scores = None if report.scores is None else _without_nan(asdict(report.scores))
    return {
        "out": None if report.out is None else named(report.out),
        "window": report.plan.window,
        "hop": report.plan.hop,
        "thresholds": report.thresholds,
        "recordings": [{"path": each.path, "seconds": each.seconds} for each in report.recordings],
        "detections": [asdict(span) for span in report.spans],
        "resumed": report.resumed,
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "notes": list(report.plan.notes),
        **({} if scores is None else {"scores": scores}),
    }


def _without_nan(value: Any) -> Any:
    """Return nested values with None for every NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
