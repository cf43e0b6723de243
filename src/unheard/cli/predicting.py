"""``unheard predict``, and ``unheard evaluate`` of a classifier on a labelled table."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unheard.api.options import DetectOptions
from unheard.cli.detecting import detect, plan_detect
from unheard.cli.shell import (
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

if TYPE_CHECKING:
    from unheard.embedding.embedder import Sound
    from unheard.errors import AudioError
    from unheard.finetuning.predicting.scorer import FileScorer


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
            " Must not exist, unless --overwrite or --resume is given.",
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
    from unheard.jobs.engines import Spread
    from unheard.jobs.plan import tasks_folder
    from unheard.jobs.running import TaskReport

    spread, out = Spread(**vars(job.spread)), output.out
    in_tasks = spread != Spread() or (out is not None and tasks_folder(out).exists() and not output.overwrite)
    if output.resume and not in_tasks:
        raise ConfigError("--resume needs --spans, or an interrupted job of --processes, --engine or --task")
    if out is None and (in_tasks or job.plan):
        raise ConfigError("several processes write a table of scores; give -o")
    if out is not None and out.exists() and not (output.overwrite or in_tasks or job.plan):
        raise ConfigError(f"{out} exists; choose another -o, or replace it with --overwrite")
    top = 3 if options.top is None else options.top
    if top < 1:
        raise ConfigError(f"--top must be at least 1; got {top}")
    scorer = open_scorer(model, device, options.precision, options.labels)
    files = expand(audio)
    if out is None or not (in_tasks or job.plan):
        return _score_here(scorer, files, out, top, strict, json)
    table = ScoreJob(scorer, files, out, device, options.precision, options.labels)
    if job.plan:
        return planned(estimate_scores(table, spread), json)
    report = score_in_tasks(table, spread, resume=output.resume, overwrite=output.overwrite, track=bar)
    if isinstance(report, TaskReport):
        return one_task(report, out, "files predicted", json, strict)
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in report.skipped),
        f"{report.done} files predicted, {report.resumed} already done, {len(report.skipped)} skipped; {report.rows}"
        f" rows in {out}",
    ]
    values = {
        "out": str(out),
        "rows": report.rows,
        "predicted": report.done,
        "resumed": report.resumed,
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
    }
    emit(lines, values, json)
    return status(len(report.skipped), strict)


def _score_here(scorer: FileScorer, files: list[str], out: Path | None, top: int, strict: bool, json: bool) -> int:
    """Score files in this process, print the best classes, and write the scores."""
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
    emit(lines, values, json)
    return status(len(skipped), strict)


def evaluate_labelled(
    model: str, labels: Path, out: Path, *, device: str, overwrite: bool, json: bool, strict: bool
) -> int:
    """Score a classifier on the clips of a table, and print the scores."""
    from dataclasses import asdict

    from unheard.finetuning.scores import score_labelled
    from unheard.finetuning.summary import interval
    from unheard.view.finetuned import draw

    report = score_labelled(model, labels, out, device=device, overwrite=overwrite, track=bar)
    draw(report, out, log)
    lines = [f"{name:18} {report.means[name]:.3f}  {interval(*ends)}" for name, ends in report.intervals.items()]
    notes = [*(f"note       {text}" for text in report.notes), *(f"skipped {reason}" for reason in report.skipped)]
    emit([report.line(), *lines, *notes], asdict(report), json)
    log(f"scores.json, classes.csv, predictions.csv and figures in {out}")
    return status(len(report.skipped), strict)
