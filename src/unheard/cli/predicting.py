"""``unheard predict``, and ``unheard evaluate`` of a classifier on a labelled table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unheard.api.options import DetectOptions
from unheard.cli.detecting import detect
from unheard.cli.shell import DeviceOption, Flat, Json, Overwrite, Strict, emit, log, status, verb
from unheard.errors import ConfigError
from unheard.outputs import locked_file
from unheard.progress import bar

if TYPE_CHECKING:
    import numpy as np

    from unheard.embedding.embedder import Sound
    from unheard.errors import AudioError

Scored = Callable[[Iterable["Sound"], Callable[["Sound", "AudioError"], None]], Iterator[tuple["Sound", "np.ndarray"]]]


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
    resume
        With --spans: continue an interrupted job, or add recordings to a finished one.
    precision
        Precision of the matrix products of the encoder. bf16 is faster on processors that have it, and slower on
        others: see unheard doctor.
    """

    labels: str | None = None
    top: int | None = None
    spans: bool = False
    resume: bool = False
    precision: Literal["float32", "bf16"] = "float32"


@verb("unheard predict runs/classifier my_audio/ -o predictions.csv")
def predict(
    model: str,
    audio: list[Path],
    /,
    *,
    options: Annotated[PredictOptions, Flat] = PredictOptions(),
    detection: Annotated[DetectOptions, Flat] = DetectOptions(),
    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"],
            help="CSV file to write, with every score. With --spans: a .csv, .txt or folder. OUT.json has its checksum."
            " Must not exist, unless --overwrite or, with --spans, --resume is given.",
        ),
    ] = None,
    overwrite: Overwrite = False,
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
        output = {"out": out, "resume": options.resume, "overwrite": overwrite}
        return detect(
            model,
            audio,
            {**vars(detection), **output, "device": device, "precision": options.precision},
            strict=strict,
            json=json,
        )
    if options.resume or detection != DetectOptions():
        changed = [name for name, value in vars(detection).items() if value is not None]
        names = ", ".join(f"--{name.replace('_', '-')}" for name in (*changed, *["resume"] * options.resume))
        raise ConfigError(f"{names} can only be given with --spans")
    return _predict_files(model, audio, options, out, overwrite, device, strict, json)


def _predict_files(
    model: str,
    audio: list[Path],
    options: PredictOptions,
    out: Path | None,
    overwrite: bool,
    device: str,
    strict: bool,
    json: bool,
) -> int:
    """Predict classes for whole files, and print and write the scores."""
    from unheard.embedding.table_jobs.inputs import expand

    if out is not None and out.exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another -o, or replace it with --overwrite")
    top = 3 if options.top is None else options.top
    if top < 1:
        raise ConfigError(f"--top must be at least 1; got {top}")
    names, score = _scorer(model, device, options)
    files, skipped = expand(audio), {}

    def skip(sound: Sound, error: AudioError) -> None:
        skipped[str(sound)] = str(error)

    with nullcontext() if out is None else locked_file(out):
        found = {str(sound): values for sound, values in score(bar(files, len(files), "predicting"), skip)}
        if out is not None:
            _write(out, model, names, found)
    best = {file: _best(names, values, top) for file, values in found.items()}
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in skipped.items()),
        *(f"{file}: {', '.join(f'{name} {value:.2f}' for name, value in scores)}" for file, scores in best.items()),
    ]
    values: dict[str, Any] = {
        "labels": list(names),
        "predictions": [{"path": file, "scores": dict(scores)} for file, scores in best.items()],
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


def _scorer(name: str, device: str, options: PredictOptions) -> tuple[Sequence[str], Scored]:
    """Return the classes of a model and its scoring function."""
    from unheard.embedding.loading import load_own
    from unheard.finetuning.ensemble import ClassifierEnsemble, open_finetuned, session_of

    precision = options.precision
    if options.labels is not None:
        from unheard.embedding.zero_shot import ZeroShot

        chosen = ZeroShot(
            load_own(name, device, precision), [label.strip() for label in options.labels.split(",") if label.strip()]
        )
        return chosen.labels, chosen.scores
    tuned = None if session_of(name) is None else open_finetuned(name, device, precision)
    if tuned is None:
        model = load_own(name, device, precision)
        if not model.labels and "contrast" in model.learner.objectives:
            raise ConfigError(
                'this model was trained with captions and has no fixed classes; give them with --labels "dog, rain"'
            )
        tuned = ClassifierEnsemble([(model, "mix")])
    return tuned.labels, tuned.scores


def _best(names: Sequence[str], scores: np.ndarray, top: int) -> list[tuple[str, float]]:
    order = (-scores).argsort(kind="stable")[:top]
    return [(names[i], float(scores[i])) for i in order]


def _write(out: Path, model: str, names: Sequence[str], found: dict[str, np.ndarray]) -> None:
    from unheard.embedding.table_files import write_companion
    from unheard.files import write_table

    columns = ("path", *(f"score {name}" for name in names))  # a class may be called path
    rows = (
        dict(zip(columns, (file, *(f"{value:.6g}" for value in scores)), strict=True)) for file, scores in found.items()
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, columns, rows)
    write_companion(out, {"model": model, "labels": list(names)})
