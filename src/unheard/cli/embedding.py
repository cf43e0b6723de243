"""``unheard embed``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import EmbedOptions
from unheard.cli.shell import (
    DeviceOption,
    Flat,
    JobOptions,
    Json,
    Overwrite,
    ResumableOut,
    Resume,
    Strict,
    emit,
    log,
    planned,
    status,
    verb,
)
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.embedding.table_jobs.report import BulkReport


@verb("unheard embed runs/first my_audio/ -o embeddings.parquet")
def embed(
    *given: Annotated[str, Parameter(name="[MODEL] AUDIO")],
    out: ResumableOut,
    options: Annotated[EmbedOptions, Flat] = EmbedOptions(),
    job: Annotated[JobOptions, Flat] = JobOptions(),
    resume: Resume = False,
    overwrite: Overwrite = False,
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
        unheard-tiny, the trained model of the package. AUDIO: sound files, archives (.tar, .parquet, .h5),
        files in them as ARCHIVE/FILE, and folders; - for a WAV file on the standard input, -@RATE for raw 16-bit mono
        samples. Runs and sounds may be at addresses such as s3://BUCKET/FOLDER, which are read through a local cache.
    """
    from unheard import api
    from unheard.weights.built_in import DEFAULT

    model, audio = _model_and_audio(given, options.segments is not None)
    if model is None:
        model = DEFAULT
        log(f"model: {DEFAULT}, built in; to choose another, give MODEL before AUDIO")
    chosen: dict[str, Any] = {**vars(options), **vars(job.spread), "device": device}
    if job.plan:
        return planned(api.plan_embed(model, audio, out, **chosen), json)
    report = api.embed(model, audio, out, **chosen, resume=resume, overwrite=overwrite, track=bar)
    skipped = [{"path": path, "reason": reason} for path, reason in report.skipped]
    values = {
        "out": named(report.out),
        "rows": report.rows,
        "embedded": report.embedded,
        "resumed": report.resumed,
        "skipped": skipped,
    }
    if report.waits_for:
        values["waits_for"] = report.waits_for
    emit(_summary(report, "files" if options.segments is None else "segments"), values, json)
    return status(len(skipped), strict)


def _summary(report: BulkReport, unit: str) -> list[str]:
    """Return the lines of the report of a job."""
    rows = f"{report.rows} rows in {named(report.out)}"
    if report.waits_for:
        rows = f"{report.rows} rows of this task; {named(report.out)} waits for {report.waits_for}"
    return [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        f"{report.embedded} {unit} embedded, {report.resumed} already done, {len(report.skipped)} skipped; {rows}",
    ]


def _model_and_audio(given: Sequence[str], segments: bool) -> tuple[str | None, list[Path]]:
    """Return the model and the sounds of the arguments. The first one is a model if its name or its folder is one."""
    from unheard.audio.archives.members import is_sound_file
    from unheard.remote.listing import exists
    from unheard.weights.built_in import is_model_name

    if not given:
        return None, []
    there = exists(given[0]) or is_sound_file(given[0])
    model = segments or is_model_name(given[0]) or (len(given) > 1 and not there)
    return (given[0], [Path(each) for each in given[1:]]) if model else (None, [Path(each) for each in given])
