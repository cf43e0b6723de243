"""``unheard pretrain`` and ``unheard finetune``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unheard.cli.shell import (
    DONE,
    INTERRUPTED,
    DeviceOption,
    Json,
    Overwrite,
    Settings,
    allow_code,
    app,
    emit,
    log,
    table,
    verb,
)
from unheard.errors import ConfigError
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.finetuning.scores import FinetunedRun
    from unheard.training.callbacks import Callbacks, Run


debug = App(
    name="debug",
    help="Look into what went wrong in a run.",
    help_epilogue="Example:\n  unheard debug replay runs/first",
)
app.command(debug)


@Parameter(name="*")
@dataclass(frozen=True)
class Start:
    """How a new run begins.

    Parameters
    ----------
    recipe
        A name of unheard recipes, or a .py file with a recipe() function, which is run.
    no_code
        Refuse a recipe that is a .py file; with --resume, a run whose objectives are those of such a file.
    epochs
        Passes over the corpus; short for --set training.epochs=N.
    steps
        Optimiser steps; short for --set training.steps=N. Without either there is a budget by the size of the corpus.
    batch_size
        Crops a step, over all devices; short for --set training.batch_size=N.
    init
        A model or run whose weights training starts from.
    skip_bad_batches
        Skip the update of up to this many batches with a loss that is not finite; short for --set
        training.skip_bad_batches=N.
    """

    recipe: str | None = None
    no_code: bool = False
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    init: Path | None = None
    skip_bad_batches: int | None = None
    settings: Settings = ()
    overwrite: Overwrite = False

    def all_settings(self) -> list[str]:
        """Every setting as ``section.key=value``; what ``--set`` says comes last and wins."""
        return [*_named(self.epochs, self.steps, self.batch_size), *_skipping(self.skip_bad_batches), *self.settings]


@Parameter(name="*")
@dataclass(frozen=True)
class FinetuneStart:
    """How a new fine-tuning run begins.

    Parameters
    ----------
    recipe
        A name of unheard recipes --finetune.
    epochs
        Passes over the training clips; short for --set training.epochs=N.
    steps
        Optimiser steps; short for --set training.steps=N.
    batch_size
        Clips a step, over all devices; short for --set training.batch_size=N.
    skip_bad_batches
        Skip the update of up to this many batches of a model with a loss that is not finite; short for --set
        training.skip_bad_batches=N.
    corpus
        Folder of packed audio that several runs share: the first run packs, later runs on the same files find it.
        Default: every run packs for itself.
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
    """The short options as settings; of epochs and steps one replaces what the recipe says of either."""
    if epochs is not None and steps is not None:
        raise ConfigError("--epochs and --steps both say how long to train; give one of them")
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
        Path | None, Parameter(name="--data", help="With --resume: where the corpus is now, if it has moved.")
    ] = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Pre-train a model on audio of your own, or continue a run.

    Ctrl-C saves a checkpoint first. What is learned, how and how long is printed before it starts.

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
                "--resume RUN takes everything from the run; with it you can give --data NEW_PLACE, when the corpus has"
                " moved, --skip-bad-batches, --no-code and --device, and no DATA, no -o and no settings"
            )
        from unheard.api import resume as resumed

        run = resumed(
            resume,
            data=data,
            skip_bad_batches=start.skip_bad_batches,
            no_code=start.no_code,
            device=device,
            report=_report(),
        )
        return _print_run(run, json)
    if data is not None:
        raise ConfigError(
            "--data belongs to --resume: unheard pretrain --resume RUN --data NEW_PLACE; a new run takes DATA as its"
            " argument"
        )
    if source is None or out is None:
        raise ConfigError(
            "pretrain needs data and an output, or a run to go on with: unheard pretrain DATA -o RUN | --resume RUN"
        )
    from unheard.api import pretrain as train

    recipe, settings = start.recipe or "msm-mae", start.all_settings()
    allow_code(recipe, start.no_code)
    run = train(
        source, out, recipe, settings, init=start.init, device=device, overwrite=start.overwrite, report=_report()
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
    resume: Annotated[Path | None, Parameter(name="--resume", help="Go on with this interrupted run instead.")] = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Make a model name the classes of a table, and score it on its test clips.

    The weights that do best on validation clips are kept; test clips choose nothing. Each fold of a table with folds is
    trained.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    labels
        A CSV with the columns path and label, and perhaps split, fold, group, start, end, known.
    """
    from unheard import api

    if resume is not None:
        if model is not None or out is not None or start != FinetuneStart(skip_bad_batches=start.skip_bad_batches):
            raise ConfigError(
                "--resume RUN takes everything from the run; with it you can give --skip-bad-batches and --device, and"
                " no model, no labels, no -o and no settings"
            )
        run = api.resume_finetune(resume, skip_bad_batches=start.skip_bad_batches, device=device, report=_report())
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
        report=_report(),
    )
    return _print_finetuned(run, json)


@verb("unheard debug replay runs/first", debug)
def replay(
    run: Path,
    /,
    *,
    step: Annotated[int | None, Parameter(name="--step", help="Which recorded step; default the latest.")] = None,
    no_code: bool = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Take a step whose loss was not finite again, and print the losses of its batch, by objective and by window.

    The run keeps what is needed in bad-step-XXXXXXXX/ and is not changed.

    Parameters
    ----------
    run
        A pre-training run.
    no_code
        Refuse a run whose objectives are those of a recipe file, which is run.
    """
    from unheard.training.replay import replay as again

    found = again(run, step, no_code=no_code, device=device, report=_report())
    names = list(found.windows[0].losses)
    rows = [
        (
            window.file,
            f"{window.start_seconds:.2f} s",
            f"{window.largest:.3g}",
            *(f"{window.losses[name]:.4g}" for name in names),
        )
        for window in sorted(found.windows, key=lambda window: window.finite)
    ]
    bad = list(dict.fromkeys(window.file for window in found.windows if not window.finite))
    lines = [
        f"step {found.step}: {', '.join(f'{name} {value:.4g}' for name, value in found.losses.items())}",
        "" if found.weights_finite else "the weights are not finite before this step already",
        *table(("file", "start", "largest input", *names), rows),
        f"not finite: {', '.join(bad)}" if bad else "every window has a finite loss when it is alone in a batch",
    ]
    emit([line for line in lines if line], asdict(found), json)
    return DONE


def _report() -> Callbacks:
    """Tell everything on stderr."""
    from unheard.training.callbacks import Callbacks

    return Callbacks(log=log, progress=bar, show_progress=True)


def _print_run(run: Run, json: bool) -> int:
    """Tell where a run stands; of many processes the first one does."""
    from unheard.training.processes import first_process

    values = {"run": str(run.folder), "step": run.step, "total": run.total, "finished": run.finished}
    ending = "finished" if run.finished else f"stopped; go on with: unheard pretrain --resume {run.folder}"
    if first_process():
        emit([f"{run.folder}: step {run.step} of {run.total}, {ending}"], values, json)
    return DONE if run.finished else INTERRUPTED


def _print_finetuned(run: FinetunedRun, json: bool) -> int:
    """Tell how well a fine-tuned run does; of many processes the first one does."""
    from unheard.training.processes import first_process

    scores = run.scores
    values = {"run": str(run.folder), "finished": run.finished, "scores": None if scores is None else asdict(scores)}
    ending = f"finished; use it with: unheard predict {run.folder} AUDIO"
    if not run.finished:
        ending = f"stopped; go on with: unheard finetune --resume {run.folder}"
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
