"""``unheard embed``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unheard.cli.shell import (
    DeviceOption,
    Flat,
    Json,
    Overwrite,
    ResumableOut,
    Strict,
    emit,
    log,
    status,
    torch_device,
    verb,
)
from unheard.errors import ConfigError
from unheard.progress import bar


@Flat
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
    window
        Write one row per part of this many seconds instead of one row per file, with the columns start and end.
    hop
        Seconds between the starts of windows. Default: the window. With --frames, seconds between time steps, which
        must divide the duration of a patch. Default: one patch.
    segments
        Table with the columns path, start, end in seconds, instead of AUDIO: one row per row of it. Paths are relative
        to it.
    """

    frames: bool = False
    layer: int | None = None
    pool: Literal["mean", "mean+std", "max", "none"] = "mean"
    window: float | None = None
    hop: float | None = None
    segments: Path | None = None


@Flat
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
    *given: Annotated[str, Parameter(name="[MODEL] AUDIO")],
    out: ResumableOut,
    kind: EmbedOptions = EmbedOptions(),
    existing: OutputPolicy = OutputPolicy(),
    device: DeviceOption = "auto",
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Embed files and folders, or parts of them, into a .parquet, .npz or .csv table.

    Unreadable files are skipped and listed in the summary.

    Parameters
    ----------
    given
        MODEL: a run, a model folder, a built-in name such as random-tiny, hf:DIR or hear:MODULE[:WEIGHTS]; default:
        unheard-tiny, the trained model of the package. AUDIO: sound files and folders.
    """
    from unheard.embedding.bulk import embed_segments_table, embed_table
    from unheard.embedding.job import Options
    from unheard.embedding.loading import load
    from unheard.weights.built_in import DEFAULT

    model, audio = _model_and_audio(given, kind.segments is not None)
    if bool(audio) == (kind.segments is not None):
        raise ConfigError("give sound files or folders, or --segments with a table of their parts, and not both")
    options = Options(kind.layer, kind.pool, kind.hop, kind.frames, window=kind.window)
    if model is None:
        model = DEFAULT
        log(f"model: {DEFAULT}, built in; to choose another, give MODEL before AUDIO")
    loaded, again, replaced = load(model, torch_device(device)), existing.resume, existing.overwrite
    if kind.segments is not None:
        segments = kind.segments
        report = embed_segments_table(loaded, segments, out, options, resume=again, overwrite=replaced, track=bar)
    else:
        report = embed_table(loaded, audio, out, options, resume=again, overwrite=replaced, track=bar)
    unit = "files" if kind.segments is None else "segments"
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        (
            f"{report.embedded} {unit} embedded, {report.resumed} already done, {len(report.skipped)} skipped;"
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


def _model_and_audio(given: Sequence[str], segments: bool) -> tuple[str | None, list[Path]]:
    """Return the model and the sounds of the arguments. The first one is a model if its name or its folder is one."""
    from unheard.weights.built_in import is_model_name

    if not given:
        return None, []
    named = segments or is_model_name(given[0]) or (len(given) > 1 and not Path(given[0]).exists())
    return (given[0], [Path(each) for each in given[1:]]) if named else (None, [Path(each) for each in given])
