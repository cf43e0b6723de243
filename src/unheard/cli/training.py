"""``unheard pretrain`` and ``unheard finetune``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import FinetuneOptions, PretrainOptions
from unheard.cli.shell import (
    ADDRESS,
    DONE,
    INTERRUPTED,
    REQUEUE,
    DeviceOption,
    Flat,
    Json,
    Overwrite,
    Settings,
    allow_code,
    emit,
    log,
    requeued_on_signals,
    verb,
)
from unheard.errors import ConfigError
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.finetuning.scores import FinetunedRun
    from unheard.training.callbacks import Callbacks, Run


IN_RECIPE = ("recipe", "no_code", "epochs", "steps", "batch_size", "skip_bad_batches")
"""Options of pretrain that --show prints as settings of the recipe, or that are not part of the run."""


@dataclass(frozen=True)
class ContinueOptions:
    """Which run is continued.

    Parameters
    ----------
    resume
        Continue this interrupted run instead.
    data
        With --resume: new path of the corpus, if it has moved. Of several sources all, in their order; or a folder that
        holds them.
    """

    resume: Path | None = None
    data: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = ()


@verb("unheard pretrain my_audio/ -o runs/first --set model.size=tiny --steps 2000")
def pretrain(
    *sources: Annotated[Path, Parameter(name="DATA")],
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help=f"Run folder to write. {ADDRESS}")] = None,
    options: Annotated[PretrainOptions, Flat] = PretrainOptions(),
    settings: Settings = (),
    overwrite: Overwrite = False,
    continued: Annotated[ContinueOptions, Flat] = ContinueOptions(),
    show: bool = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Pre-train a model on your own audio, or continue a run.

    A summary with the estimated time is printed before the start. Ctrl-C saves a checkpoint; so do SIGTERM and SIGUSR1,
    with exit code 75.

    Parameters
    ----------
    sources
        Folders of audio, archives (.tar, .parquet, .h5), CSVs with a column path and fetched corpora, in the order in
        which they are read; or one packed corpus. They may be at addresses such as s3://BUCKET/FOLDER: their files are
        read through a local cache of at most 20 GB, or UNHEARD_CACHE_GB, in the folder UNHEARD_CACHE.
    show
        Print every setting and option that the run would have, and do not train. DATA and -o are not needed; values
        that come from DATA are empty.
    """
    if show:
        return _show(options, settings, (out, overwrite), continued, json)
    if continued.resume is not None:
        kept = PretrainOptions(skip_bad_batches=options.skip_bad_batches, no_code=options.no_code, log=options.log)
        if sources or out or overwrite or options != kept:
            raise ConfigError(
                "--resume RUN takes its settings from the run; it can be combined only with --data NEW_PATH (if the"
                " corpus has moved), --set training.devices=N, --set data.on_device=VALUE, --skip-bad-batches,"
                " --no-code, --log and --device"
            )
        from unheard.api import resume as resumed

        with requeued_on_signals() as ending:
            run = resumed(
                continued.resume,
                data=continued.data or None,
                skip_bad_batches=options.skip_bad_batches,
                settings=settings,
                no_code=options.no_code,
                log=options.log,
                device=device,
                report=replace(run_callbacks(), on_stop=ending),
            )
        return _print_run(run, json)
    if continued.data:
        raise ConfigError(
            "--data needs --resume: unheard pretrain --resume RUN --data NEW_PATH; for a new run, give DATA as an"
            " argument"
        )
    if not sources or out is None:
        raise ConfigError(
            "pretrain needs data and an output, or a run to continue: unheard pretrain DATA... -o RUN | --resume RUN"
        )
    from unheard.api import pretrain as train

    allow_code(options.recipe or "", options.no_code)
    with requeued_on_signals() as ending:
        report = replace(run_callbacks(), on_stop=ending)
        run = train(sources, out, settings=settings, **vars(options), device=device, overwrite=overwrite, report=report)
    return _print_run(run, json)


@verb("unheard finetune runs/first sounds/labels.csv -o runs/classifier --epochs 30")
def finetune(
    model: str | None = None,
    labels: Path | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help=f"Run folder to write. {ADDRESS}")] = None,
    options: Annotated[FinetuneOptions, Flat] = FinetuneOptions(),
    settings: Settings = (),
    overwrite: Overwrite = False,
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
        kept = FinetuneOptions(skip_bad_batches=options.skip_bad_batches, log=options.log)
        if model is not None or out is not None or settings or overwrite or options != kept:
            raise ConfigError(
                "--resume RUN takes its settings from the run; it can be combined only with --skip-bad-batches,"
                " --log and --device"
            )
        run = api.resume_finetune(
            resume, skip_bad_batches=options.skip_bad_batches, log=options.log, device=device, report=run_callbacks()
        )
        return _print_finetuned(run, json)
    if model is None or labels is None or out is None:
        raise ConfigError(
            "finetune needs a model, labels and an output: unheard finetune MODEL labels.csv -o RUN | --resume RUN"
        )
    run = api.finetune(
        model,
        labels,
        out,
        settings=settings,
        **vars(options),
        device=device,
        overwrite=overwrite,
        report=run_callbacks(),
    )
    return _print_finetuned(run, json)


def _show(
    options: PretrainOptions,
    settings: tuple[str, ...],
    output: tuple[Path | None, bool],
    continued: ContinueOptions,
    json: bool,
) -> int:
    """Print the settings and options of a run that is not started; ``output`` is its folder, and --overwrite."""
    from unheard.api.pretraining import checked_options, chosen_recipe
    from unheard.cli.models import emit_settings
    from unheard.settings import options_of

    if continued != ContinueOptions():
        raise ConfigError("--show prints the settings of a new run; those of RUN are in RUN/config.json")
    allow_code(options.recipe or "", options.no_code)
    checked_options(options, *output)
    emit_settings(chosen_recipe(options, settings, log), json, options_of(options, IN_RECIPE))
    return DONE


def run_callbacks() -> Callbacks:
    """Return callbacks that print on stderr."""
    from unheard.training.callbacks import Callbacks

    return Callbacks(log=log, progress=bar, show_progress=True)


def _print_run(run: Run, json: bool) -> int:
    """Print the progress of a run, in the first process only."""
    from unheard.training.processes import first_process

    folder = named(run.folder)
    values = {"run": folder, "step": run.step, "total": run.total, "finished": run.finished}
    ending = "finished" if run.finished else f"stopped; continue with: unheard pretrain --resume {folder}"
    if first_process():
        emit([f"{folder}: step {run.step} of {run.total}, {ending}"], values, json)
    return DONE if run.finished else REQUEUE if run.requeue else INTERRUPTED


def _print_finetuned(run: FinetunedRun, json: bool) -> int:
    """Print the scores of a fine-tuned run, in the first process only."""
    from unheard.training.processes import first_process

    folder, scores = named(run.folder), run.scores
    values = {"run": folder, "finished": run.finished, "scores": None if scores is None else asdict(scores)}
    ending = f"finished; use it with: unheard predict {folder} AUDIO"
    if not run.finished:
        ending = f"stopped; continue with: unheard finetune --resume {folder}"
    lines = [f"{folder}: {ending}"]
    if scores is not None:
        lines = [
            scores.line(),
            *(f"note       {text}" for text in scores.notes),
            f"classes, predictions and figure in {folder}",
            *lines,
        ]
    if first_process():
        emit(lines, values, json)
    return DONE if run.finished else INTERRUPTED
