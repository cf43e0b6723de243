"""``unheard embed``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from unheard.cli.shell import DeviceOption, Json, Out, Overwrite, Strict, emit, status, torch_device, verb
from unheard.progress import bar


@Parameter(name="*")
@dataclass(frozen=True)
class EmbedOptions:
    """Options of the embeddings.

    Parameters
    ----------
    frames
        Write one row per time step instead of one row per file.
    layer
        Output of this block, 1 to depth, or negative from the end. Default: the last block, normalised.
    pool
        Pooling of time steps into one vector.
    hop
        Seconds between time steps; must divide the duration of a patch. Default: one patch.
    """

    frames: bool = False
    layer: int | None = None
    pool: Literal["mean", "mean+std", "max", "none"] = "mean"
    hop: float | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class OutputPolicy:
    """Handling of an existing table.

    Parameters
    ----------
    resume
        Continue an interrupted job.
    """

    resume: bool = False
    overwrite: Overwrite = False


@verb("unheard embed runs/first my_audio/ -o embeddings.parquet")
def embed(
    model: str,
    audio: list[Path],
    /,
    *,
    out: Out,
    kind: EmbedOptions = EmbedOptions(),
    existing: OutputPolicy = OutputPolicy(),
    device: DeviceOption = "auto",
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Embed files and folders into a .parquet, .npz or .csv table.

    Unreadable files are skipped and listed in the summary.

    Parameters
    ----------
    model
        A run, a model folder, a built-in name such as random-tiny, hf:DIR or hear:MODULE[:WEIGHTS].
    audio
        Sound files and folders.
    """
    from unheard import api
    from unheard.embedding.embedder import Options

    options = Options(kind.layer, kind.pool, kind.hop, kind.frames)
    loaded = api.load(model, torch_device(device))
    report = api.embed(loaded, audio, out, options, resume=existing.resume, overwrite=existing.overwrite, track=bar)
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        (
            f"{report.embedded} files embedded, {report.resumed} already done, {len(report.skipped)} skipped;"
            f" {report.rows} rows in {report.out}"
        ),
    ]
    skipped = [{"path": path, "reason": reason} for path, reason in report.skipped]
    values = {
        "out": str(report.out),
        "rows": report.rows,
        "embedded": report.embedded,
        "resumed": report.resumed,
        "skipped": skipped,
    }
    emit(lines, values, json)
    return status(len(skipped), strict)
