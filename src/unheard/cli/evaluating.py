"""``unheard probe`` and ``unheard evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import EvaluateOptions, ProbeOptions
from unheard.cli.shell import (
    DONE,
    DeviceOption,
    Flat,
    Json,
    Out,
    Overwrite,
    ResumableOut,
    Strict,
    emit,
    log,
    status,
    verb,
)
from unheard.errors import ConfigError, DataError
from unheard.progress import bar
from unheard.remote.listing import is_file
from unheard.remote.reading import local_path

Compare: TypeAlias = Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)]


@verb("unheard probe runs/first sounds/labels.csv -o probes/first")
def probe(
    model: str,
    labels: Path,
    /,
    *,
    out: Out,
    compare: Compare = (),
    options: Annotated[ProbeOptions, Flat] = ProbeOptions(),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Train probes on frozen embeddings and compare them with a random encoder and a log-mel baseline.

    Probes are k nearest neighbours, a linear head and an MLP. The report shows confidence intervals, per-class results,
    a learning curve, and a 2-D scatter plot of the embeddings.

    Parameters
    ----------
    model
        A run, a model folder, a built-in name such as random-tiny, hf:DIR or hear:MODULE[:WEIGHTS].
    labels
        A CSV with the columns path and label, and optionally split, fold, group, start, end, known.
    compare
        Another model to compare with, in the format of MODEL; may be repeated.
    """
    from unheard import api
    from unheard.embedding.loading import name_of, refuse_same_names

    names = [model, *compare]
    refuse_same_names(["model", *map(name_of, names[1:])])
    loaded = [api.load(name, device, options.precision) for name in names]
    report = api.probe(loaded, labels, out, **vars(options), overwrite=overwrite, track=bar)
    emit([report.table()], report.to_json(), json)
    log(f"report, tables and figures in {named(out)}; open {named(out / 'report.html')}")
    return DONE


@Flat
@dataclass(frozen=True)
class Selection:
    """What is compared, and on which tasks.

    Parameters
    ----------
    compare
        Another model to compare with, in the format of MODEL; may be repeated.
    tasks
        Prefixes of task names, separated by commas. Default: all tasks.
    """

    compare: Compare = ()
    tasks: str = ""


@Flat
@dataclass(frozen=True)
class Existing:
    """Handling of an existing evaluation.

    Parameters
    ----------
    resume
        Continue it. Finished results are kept; tasks whose labels or audio files have changed are recomputed.
    """

    resume: bool = False
    overwrite: Overwrite = False


@verb("unheard evaluate runs/first tasks/ -o scores/first --tasks esc50,tfds_gtzan")
def evaluate(
    model: str,
    tasks_dir: Path,
    /,
    *,
    out: ResumableOut,
    selection: Selection = Selection(),
    options: Annotated[EvaluateOptions, Flat] = EvaluateOptions(),
    existing: Existing = Existing(),
    device: DeviceOption = "auto",
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Score a model on HEAR or X-ARES tasks, or a classifier on a labelled table.

    Scores are compared with a random encoder, a log-mel baseline and published results. If a task fails, it is
    reported and the others continue. With a labels.csv instead of a folder, a fine-tuned model is scored on the clips
    of the split test, or on all clips.

    Parameters
    ----------
    model
        A run, a model folder, a built-in name, hf:DIR, hear:MODULE[:WEIGHTS], xares:MODULE[:CLASS], or
        embeddings:FOLDER in the layout written by heareval.
    tasks_dir
        A folder of task folders in the layout of hear-preprocess, or with --mode xares of X-ARES, or a CSV with the
        columns path and label; also at an address, from which the whole folder is copied first.
    """
    if is_file(tasks_dir):
        from unheard.cli.predicting import evaluate_labelled

        if options != EvaluateOptions() or selection != Selection() or existing.resume:
            raise ConfigError(
                "--compare, --tasks, --mode, --seeds, --exact, --vocabulary, --published, --hop, --pool, --layer and"
                " --resume need a folder of tasks; with a labels.csv, only --overwrite is possible"
            )
        return evaluate_labelled(
            model, tasks_dir, out, device=device, overwrite=existing.overwrite, json=json, strict=strict
        )
    from unheard.api import evaluate as run
    from unheard.evaluation.results import as_json

    names = [name for name in selection.tasks.split(",") if name]
    try:
        report = run(
            [model, *selection.compare],
            tasks_dir,
            out,
            names=names,
            **vars(options),
            device=device,
            **vars(existing),
            track=bar,
            log=log,
        )
    except KeyboardInterrupt:
        log(f"finished results are kept in {named(out)}; continue with the same command and --resume")
        raise
    stem = out / f"results-{options.mode}{'-exact' * options.exact}"
    emit([local_path(stem.with_suffix(".md")).read_text(encoding="utf-8")], as_json(report), json)
    log(f"report: {named(stem)}.html; all scores are also in the .csv file of the same name")
    if not report.results:
        raise DataError(f"nothing could be scored: {report.failed[0][2]}")
    return status(len(report.failed), strict)
