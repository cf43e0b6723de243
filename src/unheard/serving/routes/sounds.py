"""Sounds: uploads, files of FOLDER, their samples and spectrograms."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from unheard.errors import shown
from unheard.serving.routes.context import ERRORS, WAV, Bench, SoundPath, rounded, wav_response
from unheard.serving.schemas import Files, Sound, WindowOut
from unheard.serving.workbench import Workbench

router = APIRouter(prefix="/api", tags=["sounds"], responses=ERRORS)

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
Start = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)]
PLAYED = 60.0
"""Seconds of a sound that one request returns at most (our choice)."""


@router.post("/sounds", status_code=201, openapi_extra=BODY)
async def upload(request: Request, bench: Bench, name: Annotated[str, Query(max_length=200)] = "upload") -> Sound:
    """Upload a sound file as the body of the request. It stays in memory."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
    held = await bench.jobs.run(bench.uploads.add, name, bytes(content))
    return Sound(id=held.id, name=held.name, seconds=held.seconds, note=held.note)


@router.delete("/sounds/{sound}", status_code=204)
async def forget(sound: SoundPath, bench: Bench) -> Response:
    """Drop an upload."""
    bench.uploads.remove(sound)
    return Response(status_code=204)


@router.get("/files")
async def files(
    bench: Bench,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    contains: Annotated[str, Query(max_length=200)] = "",
) -> Files:
    """List the sound files of FOLDER, sorted by name; optionally those whose name contains a text."""
    every = [] if bench.library is None else bench.library.files
    found = [file for file in every if contains.lower() in file.name.lower()] if contains else every
    page = [Sound(id=file.id, name=shown(file.name), folder=shown(file.group)) for file in found]
    return Files(total=len(page), files=page[offset : offset + limit])


@router.get("/sounds/{sound}/audio", responses=WAV, response_class=Response)
async def audio(
    sound: SoundPath,
    bench: Bench,
    start: Start = 0.0,
    seconds: Annotated[float, Query(gt=0, le=PLAYED, allow_inf_nan=False)] = PLAYED,
) -> Response:
    """Return a part of a sound as a mono WAV file."""
    return await bench.jobs.run(lambda: wav_response(*bench.part(sound, start, seconds)))


@router.get("/sounds/{sound}/window")
async def window(sound: SoundPath, bench: Bench, start: Start = 0.0) -> WindowOut:
    """Return the log-mel spectrogram of one window of a sound."""
    return await bench.jobs.run(_window, bench, sound, start)


def _window(bench: Workbench, sound: str, start: float) -> WindowOut:
    found = bench.window(sound, start)
    return WindowOut(
        name=shown(bench.name(sound)),
        seconds=bench.seconds(sound),
        start=start,
        spec=rounded(found.spec),
        mel_hz=[round(hz, 2) for hz in found.scale.mel_hz],
        hop_seconds=found.scale.hop_seconds,
        patch_size=list(found.grid.patch_size),
        grid=[found.grid.freq, found.grid.time],
    )
