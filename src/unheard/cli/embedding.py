"""``unheard embed``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import EmbedOptions, SpreadOptions
from unheard.cli.shell import (
    DONE,
    DeviceOption,
    Flat,
    Json,
    Overwrite,
    ResumableOut,
    Resume,
    Strict,
    emit,
    log,
    status,
    verb,
)
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.embedding.table_jobs.estimate import Estimate
    from unheard.embedding.table_jobs.report import BulkReport


@dataclass(frozen=True)
class JobOptions:
    """How the job is spread over processes, and whether it is only planned.

    Parameters
    ----------
    plan
        Embed a sample of at most 64 sounds, print what the whole job will need, and write nothing.
    """

    spread: Annotated[SpreadOptions, Flat] = field(default_factory=SpreadOptions)
    plan: bool = False


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
        unheard-tiny, the trained model of the package. AUDIO: sound files, archives (.tar, .parquet), files in them as
        ARCHIVE/FILE, and folders; - for a WAV file on the standard input, -@RATE for raw 16-bit mono samples. Runs and
        sounds may be at addresses such as s3://BUCKET/FOLDER, which are read through a local cache.
    """
    from unheard import api
    from unheard.weights.built_in import DEFAULT

    model, audio = _model_and_audio(given, options.segments is not None)
    if model is None:
        model = DEFAULT
        log(f"model: {DEFAULT}, built in; to choose another, give MODEL before AUDIO")
    chosen: dict[str, Any] = {**vars(options), **vars(job.spread), "device": device}
    if job.plan:
        found = api.plan_embed(model, audio, out, **chosen)
        emit(_estimated(found), asdict(found), json)
        return DONE
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
        rows = f"{report.rows} rows of this task; {report.out} waits for {report.waits_for}"
    return [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        f"{report.embedded} {unit} embedded, {report.resumed} already done, {len(report.skipped)} skipped; {rows}",
    ]


def _estimated(found: Estimate) -> list[str]:
    """Return the lines of a plan."""
    audio = "" if found.audio_hours is None else f", {found.audio_hours:.3g} hours of audio"
    processes = f"{found.processes} processes" if found.processes > 1 else "one process"
    return [
        f"{found.items} sounds{audio}; {found.tasks} tasks",
        f"table: {found.megabytes:.3g} MB, and as much again for the parts until they are joined",
        (
            f"time: {found.hours:.3g} hours with {processes}, {found.cpu_hours:.3g} hours of processor time"
            f" ({found.items_per_second:.3g} sounds per second and process)"
        ),
        f"estimated from {found.measured} of the sounds, on this machine; nothing was written",
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
