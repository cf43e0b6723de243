"""Detections over a recording, and their export."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response
from jaxtyping import Float32

from unheard.errors import shown
from unheard.finetuning.spans.detecting import DetectionPlan, plan_detection
from unheard.finetuning.spans.formats import Recording
from unheard.serving.detections import LONGEST, Scored, exported, recording
from unheard.serving.routes.context import ERRORS, Bench, SoundPath, rounded
from unheard.serving.schemas_search import ClassifierOut, ExportIn, Overview, SpanOut, SpansIn, SpansOut
from unheard.serving.workbench import Workbench

router = APIRouter(prefix="/api", tags=["spans"], responses=ERRORS)

FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A table of detections.",
        "content": {
            kind: {"schema": {"type": "string"}} for kind in ("text/csv; charset=utf-8", "text/plain; charset=utf-8")
        },
    }
}


@router.get("/classifiers")
async def classifiers(bench: Bench) -> list[ClassifierOut]:
    """List what can detect: the model if it has classes, and classifiers that the page saved."""
    return await bench.jobs.run(_classifiers, bench)


@router.post("/spans")
async def spans(asked: SpansIn, bench: Bench) -> SpansOut:
    """Return the detections of a classifier in a recording, and the scores of all windows."""
    return await bench.jobs.run(_spans, bench, asked)


@router.post("/spans/export", responses=FILE, response_class=Response)
async def export(asked: ExportIn, bench: Bench) -> Response:
    """Return the detections as CSV, as a selection table of Raven, or as labels of Audacity."""
    return await bench.jobs.run(_export, bench, asked)


@router.get("/sounds/{sound}/overview")
async def overview(
    sound: SoundPath,
    bench: Bench,
    start: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
    seconds: Annotated[float, Query(gt=0, le=LONGEST, allow_inf_nan=False)] = LONGEST,
    width: Annotated[int, Query(ge=16, le=2000)] = 800,
) -> Overview:
    """Return the log-mel spectrogram of a part of a sound, reduced to a width by maxima."""
    return await bench.jobs.run(_overview, bench, sound, (start, seconds), width)


def _classifiers(bench: Workbench) -> list[ClassifierOut]:
    found = []
    for name in bench.detections.names():
        opened = bench.detections.classifier(name)
        title = "the served model" if name == "model" else name
        labels, stored = list(opened.labels), list(opened.thresholds)
        found.append(ClassifierOut(id=name, name=shown(title), labels=labels, thresholds=stored, window=opened.window))
    return found


def _found(bench: Workbench, asked: SpansIn) -> tuple[Recording, Scored, DetectionPlan]:
    plan = plan_detection(
        bench.detections.classifier(asked.classifier), asked.threshold, min_duration=asked.min_duration, hop=asked.hop
    )

    def read(rate: int) -> Float32[np.ndarray, " S"]:
        return bench.part(asked.sound, 0.0, LONGEST, rate)[0]

    scored = bench.detections.scored(asked.classifier, bench.version(asked.sound), plan, read)
    return recording(bench.name(asked.sound), scored, plan), scored, plan


def _spans(bench: Workbench, asked: SpansIn) -> SpansOut:
    found, scored, plan = _found(bench, asked)
    return SpansOut(
        seconds=found.seconds,
        total=max(found.seconds, bench.seconds(asked.sound)),
        labels=list(plan.decision.labels),
        thresholds=plan.decision.thresholds.tolist(),
        spans=[SpanOut(start=s.start, end=s.end, label=s.label, score=round(s.score, 4)) for s in found.spans],
        times=[round((share.start + share.end) / 2, 4) for share in scored.shares],
        scores=rounded(np.stack([share.scores for share in scored.shares]).astype(np.float32)),
        command=_command(bench, asked),
    )


def _command(bench: Workbench, asked: SpansIn) -> str:
    """Return the command that gives the same detections."""
    own = asked.classifier == "model"
    model = bench.model.origin or "MODEL" if own else str(bench.detections.path(asked.classifier))
    words = [
        "unheard",
        "predict",
        model,
        bench.address_of(asked.sound),
        "--spans",
        "--threshold",
        asked.threshold if isinstance(asked.threshold, str) else f"{asked.threshold:g}",
    ]
    words += ["--min-duration", f"{asked.min_duration:g}"] if asked.min_duration else []
    words += ["--hop", f"{asked.hop:g}"] if asked.hop else []
    return shown(shlex.join([*words, "-o", "spans.csv"]))


def _export(bench: Workbench, asked: ExportIn) -> Response:
    found, _, _ = _found(bench, asked)
    name, content = exported(found, asked.format, bench.detections.classifier(asked.classifier).sample_rate)
    kind = "text/csv" if asked.format == "csv" else "text/plain"
    return Response(
        content,
        media_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def _overview(bench: Workbench, sound: str, part: tuple[float, float], width: int) -> Overview:
    model, (start, seconds) = bench.own, part
    wav, rate = bench.part(sound, start, seconds, model.sample_rate)
    spec = model.frontend.spectrogram_cpu(wav).T
    step = max(1, -(-spec.shape[1] // width))
    padded = np.pad(spec, ((0, 0), (0, -spec.shape[1] % step)), mode="edge")
    hop = model.config.frontend.hop_size / rate
    return Overview(
        start=start,
        seconds=len(wav) / rate,
        total=bench.seconds(sound),
        hop_seconds=step * hop,
        mel_hz=[round(float(hz), 2) for hz in model.frontend.mel_centres()],
        spec=rounded(padded.reshape(len(spec), -1, step).max(axis=2)),
    )
