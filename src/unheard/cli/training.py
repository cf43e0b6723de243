"""``unheard pretrain`` and ``unheard finetune``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unheard.cli.shell import (
    DONE,
    INTERRUPTED,
    DeviceOption,
    Flat,
    Json,
    Overwrite,
    Settings,
    allow_code,
    emit,
    log,
    verb,
)
from unheard.errors import ConfigError
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.finetuning.scores import FinetunedRun
    from unheard.training.callbacks import Callbacks, Run


@Flat
@dataclass(frozen=True)
class Start:
    """Options of a new pre-training run.

    Parameters
    ----------
    recipe
        A name listed by unheard recipes, or a .py file with a recipe() function, which is executed.
    no_code
        Refuse to execute a .py file, also with --resume.
    epochs
        Number of passes over the corpus; short for --set training.epochs=N.
    steps
        Number of optimiser steps; short for --set training.steps=N. Default: chosen from the size of the corpus.
    batch_size
        Crops per step, over all devices; short for --set training.batch_size=N.
    minutes
        Duration of the training; the number of steps is computed from the measured time of a step.
    init
        Model, run or built-in name with the initial weights, such as unheard-tiny. Without --recipe, the run continues
        with the recipe, window and statistics of that model.
    skip_bad_batches
        Number of batches with a non-finite loss whose updates may be skipped; short for --set
        training.skip_bad_batches=N.
    """

    recipe: str | None = None
    no_code: bool = False
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    minutes: float | None = None
    init: Path | None = None
    skip_bad_batches: int | None = None
    settings: Settings = ()
    overwrite: Overwrite = False

    def all_settings(self) -> list[str]:
        """Every setting as ``section.key=value``; what ``--set`` says comes last and wins."""
        return [*_named(self.epochs, self.steps, self.batch_size), *_skipping(self.skip_bad_batches), *self.settings]


@Flat
@dataclass(frozen=True)
class FinetuneStart:
    """Options of a new fine-tuning run.

    Parameters
    ----------
    recipe
        A name listed by unheard recipes --finetune.
    epochs
        Number of passes over the training clips; short for --set training.epochs=N.
    steps
        Number of optimiser steps; short for --set training.steps=N.
    batch_size
        Clips per step, over all devices; short for --set training.batch_size=N.
    skip_bad_batches
        Number of batches with a non-finite loss whose updates may be skipped; short for --set
        training.skip_bad_batches=N.
    corpus
        Folder of packed audio shared by several runs on the same files. Default: every run packs its own audio.
    """

    recipe: str = "small"
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    skip_bad_batches: int | None = None
    corpus: Path | None = None
    settings: Settings = ()
    overwrite: Overwrite = False

    def all_settings(self) -> list[str]:
        """Every setting as ``section.key=value``; what ``--set`` says comes last and wins."""
        return [*_named(self.epochs, self.steps, self.batch_size), *_skipping(self.skip_bad_batches), *self.settings]


def _skipping(skip_bad_batches: int | None) -> list[str]:
    """The short option as a setting."""
    return [] if skip_bad_batches is None else [f"training.skip_bad_batches={skip_bad_batches}"]


def _named(epochs: float | None, steps: int | None, batch_size: int | None) -> list[str]:
    """Return the short options as settings; --epochs or --steps replaces both values of the recipe."""
    if epochs is not None and steps is not None:
        raise ConfigError("--epochs and --steps exclude each other; give only one of them")
    found = [] if batch_size is None else [f"training.batch_size={batch_size}"]
    if epochs is not None or steps is not None:
        found += [
            f"training.{key}={'null' if value is None else value}"
            for key, value in (("epochs", epochs), ("steps", steps))
        ]
    return found


@verb("unheard pretrain my_audio/ -o runs/first --set model.size=tiny --steps 2000")
def pretrain(
    source: Annotated[Path | None, Parameter(name="DATA")] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="Run folder to write.")] = None,
    start: Start = Start(),
    resume: Annotated[Path | None, Parameter(name="--resume", help="Continue this interrupted run instead.")] = None,
    data: Annotated[
        Path | None, Parameter(name="--data", help="With --resume: new path of the corpus, if it has moved.")
    ] = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Pre-train a model on your own audio, or continue a run.

    A summary with the estimated time is printed before the start. Ctrl-C saves a checkpoint.

    Parameters
    ----------
    source
        A folder of audio, a CSV with a column path, a fetched or a packed corpus.
    """
    if resume is not None:
        if (
            source is not None
            or out is not None
            or start != Start(skip_bad_batches=start.skip_bad_batches, no_code=start.no_code)
        ):
            raise ConfigError(
                "--resume RUN takes its settings from the run; it can be combined only with --data NEW_PATH (if the"
                " corpus has moved), --skip-bad-batches, --no-code and --device"
            )
        from unheard.api import resume as resumed

        run = resumed(
            resume,
            data=data,
            skip_bad_batches=start.skip_bad_batches,
            no_code=start.no_code,
            device=device,
            report=run_callbacks(),
        )
        return _print_run(run, json)
    if data is not None:
        raise ConfigError(
            "--data needs --resume: unheard pretrain --resume RUN --data NEW_PATH; for a new run, give DATA as an"
            " argument"
        )
    if source is None or out is None:
        raise ConfigError(
            "pretrain needs data and an output, or a run to continue: unheard pretrain DATA -o RUN | --resume RUN"
        )
    from unheard.api import pretrain as train

    allow_code(start.recipe or "", start.no_code)
    run = train(
        source,
        out,
        start.recipe,
        start.all_settings(),
        init=start.init,
        minutes=start.minutes,
        device=device,
        overwrite=start.overwrite,
        report=run_callbacks(),
    )
    return _print_run(run, json)


@verb("unheard finetune runs/first sounds/labels.csv -o runs/classifier --epochs 30")
def finetune(
    model: str | None = None,
    labels: Path | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="Run folder to write.")] = None,
    start: FinetuneStart = FinetuneStart(),
    resume: Annotated[Path | None, Parameter(name="--resume", help="Continue this interrupted run instead.")] = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Fine-tune a model on a labelled table, and score it on the test clips.

    The checkpoint with the best validation score is kept; the test split is never used for selection. If the table has
    folds, one model is trained for each fold.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    labels
        A CSV with the columns path and label, and optionally split, fold, group, start, end, known.
    """
    from unheard import api

    if resume is not None:
        if model is not None or out is not None or start != FinetuneStart(skip_bad_batches=start.skip_bad_batches):
            raise ConfigError(
                "--resume RUN takes its settings from the run; it can be combined only with --skip-bad-batches and"
                " --device"
            )
        run = api.resume_finetune(
            resume, skip_bad_batches=start.skip_bad_batches, device=device, report=run_callbacks()
        )
        return _print_finetuned(run, json)
    if model is None or labels is None or out is None:
        raise ConfigError(
            "finetune needs a model, labels and an output: unheard finetune MODEL labels.csv -o RUN | --resume RUN"
        )
    settings = start.all_settings()
    run = api.finetune(
        model,
        labels,
        out,
        start.recipe,
        settings,
        corpus=start.corpus,
        device=device,
        overwrite=start.overwrite,
        report=run_callbacks(),
    )
    return _print_finetuned(run, json)


def run_callbacks() -> Callbacks:
    """Return callbacks that print on stderr."""
    from unheard.training.callbacks import Callbacks

    return Callbacks(log=log, progress=bar, show_progress=True)


def _print_run(run: Run, json: bool) -> int:
    """Print the progress of a run, in the first process only."""
    from unheard.training.processes import first_process

    values = {"run": str(run.folder), "step": run.step, "total": run.total, "finished": run.finished}
    ending = "finished" if run.finished else f"stopped; continue with: unheard pretrain --resume {run.folder}"
    if first_process():
        emit([f"{run.folder}: step {run.step} of {run.total}, {ending}"], values, json)
    return DONE if run.finished else INTERRUPTED


def _print_finetuned(run: FinetunedRun, json: bool) -> int:
    """Print the scores of a fine-tuned run, in the first process only."""
    from unheard.training.processes import first_process

    scores = run.scores
    values = {"run": str(run.folder), "finished": run.finished, "scores": None if scores is None else asdict(scores)}
    ending = f"finished; use it with: unheard predict {run.folder} AUDIO"
    if not run.finished:
        ending = f"stopped; continue with: unheard finetune --resume {run.folder}"
    lines = [f"{run.folder}: {ending}"]
    if scores is not None:
        lines = [
            scores.line(),
            *(f"note       {text}" for text in scores.notes),
            f"classes, predictions and figure in {run.folder}",
            *lines,
        ]
    if first_process():
        emit(lines, values, json)
    return DONE if run.finished else INTERRUPTED
