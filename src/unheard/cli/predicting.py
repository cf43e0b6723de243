"""``unheard predict``, and ``unheard evaluate`` of a classifier on a labelled table."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from unheard.addresses import address_of, named
from unheard.api.options import DetectOptions
from unheard.cli.detecting import detect, plan_detect
from unheard.cli.shell import (
    ADDRESS,
    DeviceOption,
    Flat,
    JobOptions,
    Json,
    Overwrite,
    Strict,
    emit,
    log,
    one_task,
    planned,
    status,
    verb,
)
from unheard.errors import ConfigError
from unheard.outputs import locked_file
from unheard.progress import bar
from unheard.remote.listing import exists
from unheard.remote.outputs import local_output, refuse_other_kind_at

if TYPE_CHECKING:
    from unheard.embedding.embedder import Sound
    from unheard.errors import AudioError
    from unheard.finetuning.predicting.job import ScoreReport
    from unheard.finetuning.predicting.scorer import FileScorer
    from unheard.jobs.engines import Spread

Printed: TypeAlias = tuple[list[str], dict[str, Any], int]
"""Lines and values to print, and the number of sounds that were skipped."""


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted.

    Parameters
    ----------
    labels
        Class names, separated by commas; only for a model trained with captions.
    top
        Number of classes to print for each sound. Default: 3.
    spans
        Print the parts of each recording in which a class is detected, with start, end and score.
    precision
        Precision of the matrix products of the encoder. bf16 is faster on processors that have it, and slower on
        others: see unheard doctor.
    """

    labels: str | None = None
    top: int | None = None
    spans: bool = False
    precision: Literal["float32", "bf16"] = "float32"


@dataclass(frozen=True)
class Output:
    """Where predictions are written.

    Parameters
    ----------
    resume
        Continue an interrupted job of several processes. With --spans also continue one of this process, or add
        recordings to a finished one.
    """

    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"],
            help="CSV file to write, with every score. With --spans: a .csv, .txt or folder. OUT.json has its checksum."
            f" Must not exist, unless --overwrite or --resume is given. {ADDRESS}",
        ),
    ] = None
    resume: bool = False
    overwrite: Overwrite = False


@verb("unheard predict runs/classifier my_audio/ -o predictions.csv")
def predict(
    model: str,
    audio: list[Path],
    /,
    *,
    options: Annotated[PredictOptions, Flat] = PredictOptions(),
    detection: Annotated[DetectOptions, Flat] = DetectOptions(),
    job: Annotated[JobOptions, Flat] = JobOptions(),
    output: Annotated[Output, Flat] = Output(),
    device: DeviceOption = "auto",
    strict: Strict = False,
    json: Json = False,
) -> int:
    """Predict classes for audio files and folders, or with --spans for parts of recordings.

    A fine-tuned model predicts its own classes. A model trained with captions predicts the classes given with --labels.
    Options from --threshold on need --spans.

    Parameters
    ----------
    model
        A run or a model folder.
    audio
        Sound files, archives (.tar, .parquet, .h5) and folders.
    """
    if options.spans:
        if options.labels is not None or options.top is not None:
            raise ConfigError("--labels and --top are for whole files; leave them out with --spans")
        chosen = {**vars(detection), "device": device, "precision": options.precision}
        if job.plan:
            return plan_detect(model, audio, chosen, job.spread, json)
        return detect(model, audio, {**chosen, **vars(output), **vars(job.spread)}, strict=strict, json=json)
    if detection != DetectOptions():
        changed = [name for name, value in vars(detection).items() if value is not None]
        names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise ConfigError(f"{names} can only be given with --spans")
    return _predict_files(model, audio, options, job, output, device, strict, json)


def _predict_files(
    model: str,
    audio: list[Path],
    options: PredictOptions,
    job: JobOptions,
    output: Output,
    device: str,
    strict: bool,
    json: bool,
) -> int:
    """Predict classes for whole files, and print or write the scores."""
    from unheard.embedding.table_jobs.inputs import expand
    from unheard.finetuning.predicting.job import ScoreJob, estimate_scores, score_in_tasks
    from unheard.finetuning.predicting.scorer import open_scorer
    from unheard.jobs.addressed import in_tasks_at
    from unheard.jobs.engines import Spread
    from unheard.jobs.running import TaskReport

    spread, out, top = Spread(**vars(job.spread)), output.out, 3 if options.top is None else options.top
    if out is None and (spread != Spread() or job.plan):
        raise ConfigError("several processes write a table of scores; give -o")
    if top < 1:
        raise ConfigError(f"--top must be at least 1; got {top}")
    chosen = (device, options.precision, options.labels)
    with nullcontext(out) if out is None or job.plan else _place(out, output, spread) as place:
        in_tasks = place is not None and _in_tasks(place, output, spread, job.plan)
        scorer, files = open_scorer(model, *chosen), expand(audio)
        if place is None or not (in_tasks or job.plan):
            lines, values, skipped = _score_here(scorer, files, place, top)
        elif job.plan:
            return planned(estimate_scores(ScoreJob(scorer, files, place, *chosen), spread), json)
        else:

            def score(table: Path) -> ScoreReport | TaskReport:
                waits = table != out and spread.task is None and table.exists() and not exists(place)  # for its upload
                resume, overwrite = output.resume and not waits, output.overwrite or waits
                scored = ScoreJob(scorer, files, table, *chosen)
                return score_in_tasks(scored, spread, resume=resume, overwrite=overwrite, track=bar)

            report = in_tasks_at(place, spread, "predict", score, resume=output.resume, overwrite=output.overwrite)
            if isinstance(report, TaskReport):
                return one_task(report, place, "files predicted", json, strict)
            lines, values, skipped = _joined(report, named(out or place))
    emit(lines, values, json)
    return status(skipped, strict)


def _place(out: Path, output: Output, spread: Spread) -> AbstractContextManager[Path]:
    """Return the place of a table: its path, or for an address a local one."""
    from unheard.jobs.addressed_job import refuse_parts_at
    from unheard.jobs.engines import Spread

    if not address_of(out) or spread != Spread():
        return nullcontext(out)
    refuse_parts_at(out)
    return local_output(out, overwrite=output.overwrite, verb="predict")


def _in_tasks(place: Path, output: Output, spread: Spread, plan: bool) -> bool:
    """Return whether the table is written in tasks. Refuse options and outputs that do not fit."""
    from unheard.jobs.engines import Spread
    from unheard.jobs.plan import tasks_folder

    refuse_other_kind_at(output.out or place, "file")
    in_tasks = spread != Spread() or (tasks_folder(place).exists() and not output.overwrite)
    if output.resume and not in_tasks:
        raise ConfigError("--resume needs --spans, or an interrupted job of --processes, --engine or --task")
    if place == output.out and place.exists() and not (output.overwrite or in_tasks or plan):
        raise ConfigError(f"{place} exists; choose another -o, or replace it with --overwrite")
    return in_tasks


def _joined(report: ScoreReport, out: str) -> Printed:
    """Return the summary of a table that several processes wrote."""
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        f"{report.done} files predicted, {report.resumed} already done, {len(report.skipped)} skipped; {report.rows}"
        f" rows in {out}",
    ]
    values = {
        "out": out,
        "rows": report.rows,
        "predicted": report.done,
        "resumed": report.resumed,
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
    }
    return lines, values, len(report.skipped)


def _score_here(scorer: FileScorer, files: list[str], out: Path | None, top: int) -> Printed:
    """Score files in this process, and write the scores. Return the best classes."""
    from unheard.finetuning.predicting.job import write_identity, write_scores
    from unheard.finetuning.predicting.scorer import best

    skipped: dict[str, str] = {}

    def skip(sound: Sound, error: AudioError) -> None:
        skipped[str(sound)] = str(error)

    with nullcontext() if out is None else locked_file(out):
        found = dict(scorer.scores(bar(files, len(files), "predicting"), skip))
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_scores(out, scorer.labels, found.items())
            write_identity(out, scorer)
    highest = {file: best(scorer.labels, values, top) for file, values in found.items()}
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in skipped.items()),
        *(f"{file}: {', '.join(f'{name} {value:.2f}' for name, value in scores)}" for file, scores in highest.items()),
    ]
    values: dict[str, Any] = {
        "labels": list(scorer.labels),
        "predictions": [{"path": file, "scores": dict(scores)} for file, scores in highest.items()],
        "skipped": [{"path": path, "reason": reason} for path, reason in skipped.items()],
    }
    return lines, values, len(skipped)


def evaluate_labelled(
    model: str, labels: Path, out: Path, *, device: str, overwrite: bool, json: bool, strict: bool
) -> int:
    """Score a classifier on the clips of a table, and print the scores."""
    from dataclasses import asdict

    from unheard.bootstrap import interval_text
    from unheard.finetuning.scores import score_labelled
    from unheard.view.finetuned import draw

    # with --overwrite, other files in the folder are kept
    with local_output(out, kind="folder", overwrite=overwrite, resume=overwrite, verb="score_labelled") as place:
        report = score_labelled(model, labels, place, device=device, overwrite=True, track=bar)
        draw(report, place, log)
    lines = [f"{name:18} {report.means[name]:.3f}  {interval_text(*ends)}" for name, ends in report.intervals.items()]
    notes = [*(f"note       {text}" for text in report.notes), *(f"skipped {reason}" for reason in report.skipped)]
    emit([report.line(), *lines, *notes], asdict(report), json)
    log(f"scores.json, classes.csv, predictions.csv and figures in {named(out)}")
    return status(len(report.skipped), strict)
