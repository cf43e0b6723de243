"""What the endpoints have in common."""

from __future__ import annotations

import io
import math
from typing import Annotated, Any

import numpy as np
import soundfile
from fastapi import Depends, Path, Request, Response
from jaxtyping import Float32

from unheard.serving.workbench import Workbench


def _bench(request: Request) -> Workbench:
    bench: Workbench = request.app.state.bench
    return bench


Bench = Annotated[Workbench, Depends(_bench)]
SoundPath = Annotated[str, Path(max_length=64, description="Id of an upload, or of a file of FOLDER.")]

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, text in {
        400: "The body is not readable.",
        401: "A token is required.",
        403: "The request comes from another site.",
        404: "There is no such sound.",
        408: "The body did not arrive in time.",
        409: "The state of the server does not allow this yet.",
        413: "The body or the sound is too large.",
        421: "The Host header is not this server.",
        422: "The request is not valid, or the sound cannot be used.",
        503: "The server is busy; Retry-After has the seconds to wait.",
    }.items()
}
"""Responses of all endpoints besides the result."""

WAV: dict[int | str, dict[str, Any]] = {
    200: {"description": "A WAV file.", "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}}
}


def wav_response(wav: Float32[np.ndarray, " S"], sample_rate: int) -> Response:
    """Return samples as a WAV file of 16 bits; louder signals are scaled to full scale."""
    buffer = io.BytesIO()
    peak = max(1.0, float(np.abs(wav).max(initial=0.0)))
    soundfile.write(buffer, wav / peak, sample_rate, subtype="PCM_16", format="WAV")
    return Response(buffer.getvalue(), media_type="audio/wav", headers={"Cache-Control": "no-store"})


def finite(value: float) -> float | None:
    """Return a number, or None if it is not finite."""
    return round(float(value), 6) if math.isfinite(value) else None


def rounded(values: Float32[np.ndarray, "r c"]) -> list[list[float]]:
    """Return an array as lists, with three decimals."""
    return np.round(values.astype(np.float64), 3).tolist()  # type: ignore[no-any-return]
