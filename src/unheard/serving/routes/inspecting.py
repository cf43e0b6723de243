"""Reconstruction of masked patches, its sound, and attention."""

from __future__ import annotations

import shlex

import numpy as np
from fastapi import APIRouter, Response

from unheard.audio.resynthesis import griffin_lim
from unheard.errors import UnheardError, shown
from unheard.serving.routes.context import ERRORS, WAV, Bench, finite, rounded, wav_response
from unheard.serving.schemas import (
    AttentionIn,
    AttentionOut,
    ReconstructIn,
    ReconstructOut,
    ResynthesisIn,
    Status,
)
from unheard.serving.workbench import Workbench
from unheard.view.reconstruction import Reconstruction
from unheard.view.whole import MaskPlan, reconstruct_whole
from unheard.view.window import (
    attention_window,
    painted_text,
    reconstruct_window,
    refuse_reconstruction,
    window_seconds,
)

router = APIRouter(prefix="/api", tags=["model"], responses=ERRORS)

PLAYED_SECONDS = 30.0  # longest part of a whole sound that is converted, some seconds of computing; our choice


@router.get("/status")
async def status(bench: Bench) -> Status:
    """Return the model, its properties, and the limits of this server."""
    model, own, reason = bench.model, None, ""
    try:
        own = bench.own
        refuse_reconstruction(own)
    except UnheardError as error:
        reason = str(error)
    if own is not None and not reason and "reconstruct" not in own.learner.objectives:
        reason = "this model was trained without a reconstruction objective"
    return Status(
        model=shown(model.origin or model.description),
        device=str(model.device),
        sample_rate=model.sample_rate,
        window_seconds=None if own is None else window_seconds(own),
        layers=model.depth,
        heads=0 if own is None else own.encoder.transformer.blocks[0].attn.num_heads,  # type: ignore[union-attr, arg-type]
        mask_ratio=None if own is None else own.config.model.mask_ratio,
        reconstructs=not reason,
        reason=reason,
        plays=own is not None and own.config.frontend.kind == "log-mel",
        words=own is not None and "contrast" in own.learner.objectives,
        folder="" if bench.library is None else shown(bench.library.root.name),
        files=0 if bench.library is None else len(bench.library.files),
        upload_bytes=bench.limits.upload_bytes,
        upload_seconds=bench.limits.upload_seconds,
    )


@router.post("/reconstruct")
async def reconstruct(asked: ReconstructIn, bench: Bench) -> ReconstructOut:
    """Mask patches of a window and reconstruct them."""
    return await bench.jobs.run(_reconstruct, bench, asked)


@router.post("/resynthesis", responses=WAV, response_class=Response)
async def resynthesis(asked: ResynthesisIn, bench: Bench) -> Response:
    """Convert the original, masked or reconstructed spectrogram to sound, all with the same vocoder (Griffin-Lim).

    With ``whole``, the windows of the first 30 seconds are joined.
    """
    return await bench.jobs.run(_resynthesis, bench, asked)


@router.post("/attention")
async def attention(asked: AttentionIn, bench: Bench) -> AttentionOut:
    """Return the attention of one patch to all patches of a window."""
    return await bench.jobs.run(_attention, bench, asked)


def _shown(bench: Workbench, asked: ReconstructIn) -> Reconstruction:
    mask = asked.mask if asked.hidden is None else _painted(asked.hidden)
    window = bench.window(asked.sound, asked.start)
    return reconstruct_window(bench.own, window, mask, asked.mask_ratio, asked.seed)


def _painted(rows: list[list[bool]]) -> np.ndarray:
    width = max(map(len, rows))
    if any(len(row) != width for row in rows):
        raise UnheardError("the rows of hidden differ in length; give one value for each patch of the window")
    return np.array(rows, dtype=bool)


def _reconstruct(bench: Workbench, asked: ReconstructIn) -> ReconstructOut:
    shown_window = _shown(bench, asked)
    error, baselines = finite(shown_window.error.model), shown_window.error.baselines
    return ReconstructOut(
        hidden=shown_window.hidden.tolist(),
        drawn=rounded(shown_window.drawn),
        error=error,
        baselines={name: finite(value) for name, value in baselines.items()},
        sentence=_sentence(shown_window),
        command=_command(bench, asked),
    )


def _sentence(result: Reconstruction) -> str:
    """Return the result as a sentence."""
    return f"{result.hidden.mean():.0%} of the patches are masked. {result.error.sentences()}"


def _command(bench: Workbench, asked: ReconstructIn) -> str:
    """Return the command that plots the same figure."""
    words = ["unheard", "reconstruct", bench.own.origin or "MODEL", bench.address_of(asked.sound)]
    words += ["-o", "reconstruction.png"]
    if asked.hidden is not None:
        words += ["--painted", painted_text(np.array(asked.hidden))]
    else:
        words += ["--mask", asked.mask]
        words += ["--seed", str(asked.seed)] if asked.mask in ("random", "structured") else []
        if asked.mask_ratio is not None and asked.mask in ("random", "structured"):
            words += ["--mask-ratio", f"{asked.mask_ratio:g}"]
    return shown(shlex.join([*words, *(["--start", f"{asked.start:g}"] if asked.start else [])]))


def _resynthesis(bench: Workbench, asked: ResynthesisIn) -> Response:
    model, seconds = bench.own, PLAYED_SECONDS if asked.whole else window_seconds(bench.own)
    wav, _ = bench.part(asked.sound, 0.0 if asked.whole else asked.start, seconds, model.sample_rate)
    spec = model.frontend.spectrogram_cpu(wav)
    if not asked.whole:
        spec = spec[: model.grid.frames]
    if asked.what == "original":
        return wav_response(griffin_lim(spec.T, model.config.frontend), model.sample_rate)
    plan = MaskPlan(asked.mask if asked.hidden is None else _painted(asked.hidden), asked.mask_ratio, asked.seed)
    made = reconstruct_whole(model, spec, plan)
    return wav_response(griffin_lim(made.spectrogram(asked.what), model.config.frontend), model.sample_rate)


def _attention(bench: Workbench, asked: AttentionIn) -> AttentionOut:
    model = bench.own
    window = bench.window(asked.sound, asked.start)
    (found,) = attention_window(model, window, [(asked.row, asked.column)], asked.layer, asked.head)
    relative = found.weights * found.weights.size
    return AttentionOut(weights=rounded(relative), layer=asked.layer or model.depth, head=asked.head)
