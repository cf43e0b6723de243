"""Evaluation of models on HEAR task folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_args

from unheard.api.options import EvaluateOptions, documented
from unheard.devices import torch_device
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.hear_api import Published
from unheard.embedding.job import Layer
from unheard.embedding.loading import refuse_same_names
from unheard.errors import ConfigError
from unheard.evaluation.encoders.choose import Encoder, encoder, encoders
from unheard.evaluation.encoders.own_encoder import Runtime
from unheard.evaluation.failures import FAILURES
from unheard.evaluation.hear import results as hear_results
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.embeddings import PROVENANCE_FILE
from unheard.evaluation.hear.suite import EvaluationConfig, Mode, choose_tasks
from unheard.evaluation.report import Report
from unheard.evaluation.results import EvaluationTable
from unheard.evaluation.xares import suite as xares_suite
from unheard.evaluation.xares import tables as xares_tables
from unheard.evaluation.xares.suite import XaresConfig, XaresMode
from unheard.evaluation.xares.tasks import choose_tasks as choose_xares_tasks
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded
from unheard.remote.reading import copied_folder
from unheard.view.evaluation_page import write_evaluation

Tasks = TypeVar("Tasks")


@documented(EvaluateOptions)
@uploaded("out")
def evaluate(
    models: EmbeddingModel | str | Path | Sequence[EmbeddingModel | str | Path],
    tasks: str | Path,
    out: str | Path,
    *,
    names: Sequence[str] = (),
    mode: Literal["heareval", "robust", "xares"] = "heareval",
    seeds: int | None = None,
    exact: bool = False,
    vocabulary: Path | None = None,
    published: Published = "no",
    hop: float | None = None,
    pool: Literal["mean", "mean+std", "max"] = "mean",
    layer: Layer = None,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Score models on HEAR or X-ARES tasks and compare them with a random encoder and a log-mel baseline.

    Writes ``results-MODE.csv`` (one row per score), ``.json``, ``.md`` and ``.html`` with published results, and, if
    matplotlib is installed, ``.png`` into ``out``. The results of the other mode are kept.

    Parameters
    ----------
    models : Model, path or str, or several of them
        Also ``hf:DIR`` for the folder of a Hugging Face audio encoder, ``hear:MODULE[:WEIGHTS]`` for a module with the
        HEAR API, ``xares:MODULE[:CLASS]``, or ``embeddings:FOLDER`` written by heareval or an earlier evaluation. An
        X-ARES module is identified by its weights and the file of its class.
        The random encoder and log-mel baseline are those of the first.
    tasks : path
        A folder of task folders in the layout of hear-preprocess, or for the mode xares the folder ``env`` of X-ARES.
        One at an address is copied first.
    out : path
        Output folder, also at an address.
    names : sequence of str
        Prefixes of task names; default: all tasks.
    device : str
        Device of models given by name, and of the heads of the robust mode.
    overwrite : bool
        Delete the files of an earlier evaluation in ``out``; other files are kept.
    resume : bool
        Continue the evaluation in ``out``; existing embeddings, fits and scores are reused.
    track : Track
    log : callable
        Receives messages.

    Returns
    -------
    Report
        Results, and the failed tasks with the reason.

    Raises
    ------
    ConfigError
        When ``out`` exists or another process writes to it, a task or a module does not exist, or two models have the
        same name.
    """
    runtime, folder = Runtime(published, hop, pool, layer), Path(out)
    several = [models] if isinstance(models, EmbeddingModel | str | Path) else list(models)
    device = torch_device(device)
    if mode == "xares":
        _refuse_unused(several, runtime, seeds)
        plan = XaresConfig(exact, 1 if seeds is None else seeds, vocabulary)
        protocol: _Protocol = _Xares(plan, tasks, names)
    elif exact or vocabulary is not None:
        raise ConfigError("--exact and --vocabulary need --mode xares")
    else:
        protocol = _Hear(
            EvaluationConfig(mode, seeds=_seeds(mode, seeds), device=device, runtime=runtime), tasks, names
        )
    if folder.exists() and not resume:
        _refuse(folder, overwrite)
    compared = _encoders_to_compare(several, device, runtime, finest=mode != "xares")
    with locked_folder(folder):
        if not resume:
            _clear(folder)
        report, shown = protocol.evaluate(compared, folder, track, log)
        write_evaluation(report, shown, folder / f"results-{protocol.mode}")
    return report


class _Protocol(Protocol):
    """Tasks and settings of an evaluation."""

    mode: str

    def evaluate(
        self, encoders: Sequence[Encoder], out: Path, track: Track, log: Callable[[str], None]
    ) -> tuple[Report, EvaluationTable]:
        """Return the results and their table."""
        ...


class _Hear:
    """The protocols of HEAR."""

    def __init__(self, plan: EvaluationConfig, tasks: str | Path, names: Sequence[str]) -> None:
        self.plan, self.tasks = plan, _chosen(choose_tasks, tasks, names)
        self.mode: str = plan.mode

    def evaluate(
        self, encoders: Sequence[Encoder], out: Path, track: Track, log: Callable[[str], None]
    ) -> tuple[Report, EvaluationTable]:
        report = suite.evaluate(encoders, self.tasks, out, self.plan, track, log)
        return report, hear_results.evaluation_table(report)


class _Xares:
    """The protocols of X-ARES."""

    def __init__(self, plan: XaresConfig, tasks: str | Path, names: Sequence[str]) -> None:
        self.plan = plan
        self.mode: str = plan.mode
        self.tasks, self.remarks = _chosen(choose_xares_tasks, tasks, names)

    def evaluate(
        self, encoders: Sequence[Encoder], out: Path, track: Track, log: Callable[[str], None]
    ) -> tuple[Report, EvaluationTable]:
        for remark in self.remarks:
            log(remark)
        report = xares_suite.evaluate(encoders, self.tasks, out, self.plan, track, log)
        report.remarks[:0] = self.remarks
        return report, xares_tables.evaluation_table(report, [task for _, task in self.tasks], self.plan.exact)


def _chosen(choose: Callable[[Path, Sequence[str]], Tasks], tasks: str | Path, names: Sequence[str]) -> Tasks:
    """Return some tasks of a folder; one at an address is copied first."""
    with copied_folder(tasks) as folder:
        return choose(folder, names)


def _refuse(folder: Path, overwrite: bool) -> None:
    """Refuse an existing folder unless it is an evaluation that is to be replaced."""
    ways = "choose another -o, replace it with --overwrite, or continue it with --resume"
    refuse_existing(folder, overwrite, ways, kind="folder")
    marks = ("results-*.json", f"embeddings/*/*/{PROVENANCE_FILE}", f"{xares_suite.POOLED}/*/*/*")
    if not any(any(folder.glob(mark)) for mark in marks):
        raise ConfigError(
            f"{folder} is not an evaluation, so --overwrite does not replace it; choose another -o, or delete it"
            " yourself"
        )


def _clear(folder: Path) -> None:
    """Delete the files of an evaluation, and no other files."""
    for name in ("embeddings", xares_suite.POOLED, "fits", "scores", FAILURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    for mode, kind in product((*get_args(Mode), *get_args(XaresMode)), ("csv", "json", "md", "html", "png")):
        (folder / f"results-{mode}.{kind}").unlink(missing_ok=True)


def _seeds(mode: str, seeds: int | None) -> int:
    """Return the number of seeds; refuse one that does not fit the mode."""
    if seeds is not None and mode != "robust":
        raise ConfigError("--seeds needs --mode robust or xares; the mode heareval has one seed")
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {seeds}")
    return EvaluationConfig.seeds if seeds is None else seeds


def _refuse_unused(models: Sequence[EmbeddingModel | str | Path], runtime: Runtime, seeds: int | None) -> None:
    """Refuse what the mode xares cannot use."""
    if runtime.pool != "mean":
        raise ConfigError("--mode xares takes the mean over time, as X-ARES does; leave --pool out")
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {seeds}")
    for model in models:
        if isinstance(model, str) and model.startswith("embeddings:"):
            raise ConfigError(f"{model} holds embeddings of HEAR tasks; --mode xares needs a model")


def _encoders_to_compare(
    models: Sequence[EmbeddingModel | str | Path], device: str, runtime: Runtime, finest: bool
) -> list[Encoder]:
    """Return the models, the random encoder and log-mel of the first, with distinct names."""
    if not models:
        raise ConfigError("give at least one model")
    own, *baselines = encoders(models[0], device, runtime, finest)
    compared = [own, *(encoder(each, device, runtime, finest) for each in models[1:]), *baselines]
    refuse_same_names([each.name for each in compared])
    return compared
