"""``unheard probe`` and ``unheard evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unheard.cli.shell import DONE, DeviceOption, Json, Out, Overwrite, Strict, emit, log, status, torch_device, verb
from unheard.errors import ConfigError, DataError
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.evaluation.hear.suite import EvaluationConfig


@Parameter(name="*")
@dataclass(frozen=True)
class ProbeOptions:
    """What is probed.

    Parameters
    ----------
    seeds
        How many random encoders, assignments to folds, and first weights of the small network.
    pool
        How time steps become one vector.
    layer
        Which block's output, 1 to depth; default the last, normalised.
    layers
        all: also score every layer, and a gate over them that learns which ones to hear.
    """

    seeds: int = 3
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: int | None = None
    layers: Literal["all"] | None = None


@verb("unheard probe runs/first sounds/labels.csv -o probes/first")
def probe(
    model: str,
    labels: Path,
    /,
    *,
    out: Out,
    vectors: ProbeOptions = ProbeOptions(),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """How much of some labels can be read off frozen embeddings, beside a random encoder and plain log-mel.

    Nearest neighbours, a linear head and a small network, with intervals, classes, a learning curve and a map that
    sounds, on one page.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    labels
        A CSV with the columns path and label, and perhaps split, fold, group, start, end, known.
    """
    if vectors.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {vectors.seeds}")
    from unheard import api

    which = vars(vectors) | {"seeds": range(vectors.seeds)}
    loaded = api.load(model, torch_device(device))
    report = api.probe(loaded, labels, out, **which, overwrite=overwrite, track=bar)
    emit([report.table()], report.to_json(), json)
    log(f"page, tables and figures in {out}; open {out / 'report.html'}")
    return DONE


@Parameter(name="*")
@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated by which protocol.

    Parameters
    ----------
    beside
        Another model for the same table, named as MODEL is; may be repeated.
    tasks
        Beginnings of task names, separated by commas; default all.
    mode
        heareval gives numbers that compare with published ones; fixed shuffles, runs several seeds, and is quicker.
    seeds
        Runs of the robust mode, default 3; the other has one seed.
    """

    compare: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = ()
    tasks: str = ""
    mode: Literal["heareval", "robust"] = "heareval"
    seeds: int | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class Embedding:
    """How the models embed.

    Parameters
    ----------
    published
        Reproduce the published runtime of MSM-MAE or M2D, to compare with their scores.
    hop
        Seconds between time steps, a whole part of a patch's duration. Default: for events the finest hop of the model
        (a coarser one takes less time and disk), for scenes one patch.
    pool
        How time steps become one vector.
    layer
        Which block's output, 1 to depth, or negative from the end; default the last, normalised.
    """

    published: Literal["no", "msm-mae", "m2d"] = "no"
    hop: float | None = None
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: int | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class Existing:
    """What becomes of an evaluation that is there.

    Parameters
    ----------
    resume
        Go on with it; nothing that is done is done again.
    """

    resume: bool = False
    overwrite: Overwrite = False


@verb("unheard evaluate runs/first tasks/ -o scores/first --tasks esc50,tfds_gtzan")
def evaluate(
    model: str,
    tasks_dir: Path,
    /,
    *,
    out: Out,
    how: EvaluateOptions = EvaluateOptions(),
    embedding: Embedding = Embedding(),
    existing: Existing = Existing(),
    device: DeviceOption = "auto",
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Score a model on HEAR task folders, beside an untrained encoder, plain log-mel and published numbers; or a
    classifier on labels.

    A task that fails is named and the others are finished. With a labels.csv in place of a folder, a fine-tuned model
    is scored on its clips: those of the split test, or all.

    Parameters
    ----------
    model
        A run, a model folder, a built-in name, hear:MODULE[:WEIGHTS], xares:MODULE[:CLASS], or embeddings:FOLDER as
        heareval left it.
    tasks_dir
        A folder of task folders as hear-preprocess writes them; or a CSV with the columns path and label.
    """
    if tasks_dir.is_file():
        from unheard.cli.predicting import evaluate_labelled

        if how != EvaluateOptions() or embedding != Embedding() or existing.resume:
            raise ConfigError(
                "--compare, --tasks, --mode, --seeds, --published, --hop, --pool, --layer and --resume are for task"
                " folders; with a labels.csv only --overwrite is possible"
            )
        return evaluate_labelled(
            model, tasks_dir, out, device=torch_device(device), overwrite=existing.overwrite, json=json, strict=strict
        )
    from unheard.api import evaluate as run
    from unheard.evaluation.hear.results import as_json, markdown

    plan, overwrite, resume = _plan(how, embedding, torch_device(device)), existing.overwrite, existing.resume
    try:
        report = run(
            model, tasks_dir, out, plan, beside=how.compare, overwrite=overwrite, resume=resume, track=bar, log=log
        )
    except KeyboardInterrupt:
        log(f"what is done is kept in {out}; the same command with --resume goes on")
        raise
    emit([markdown(report)], as_json(report), json)
    log(f"the page is {out}/results-{how.mode}.html; its numbers lie beside it, one row each in the .csv")
    if not report.results:
        raise DataError(f"nothing could be scored: {report.failed[0][2]}")
    return status(len(report.failed), strict)


def _plan(how: EvaluateOptions, embedding: Embedding, device: str) -> EvaluationConfig:
    """What a suite does.

    Raises
    ------
    ConfigError
        When there are seeds where the protocol has its own, or none.
    """
    from unheard.evaluation.hear.own_encoder import Runtime
    from unheard.evaluation.hear.suite import EvaluationConfig

    if how.seeds is not None and how.mode != "robust":
        raise ConfigError("--seeds belongs to --mode robust; HEAR's protocol has one seed")
    seeds = EvaluationConfig.seeds if how.seeds is None else how.seeds
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {seeds}")
    names = tuple(name for name in how.tasks.split(",") if name)
    return EvaluationConfig(how.mode, seeds=seeds, names=names, device=device, runtime=Runtime(**vars(embedding)))
