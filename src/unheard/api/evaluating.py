"""Evaluation of models on HEAR task folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from unheard.api.options import EvaluateOptions, documented
from unheard.devices import torch_device
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.hear_api import Published
from unheard.embedding.loading import refuse_same_names
from unheard.errors import ConfigError
from unheard.evaluation.encoders.choose import Encoder, encoder, encoders
from unheard.evaluation.encoders.own_encoder import Runtime
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.embeddings import PROVENANCE_FILE
from unheard.evaluation.hear.results import evaluation_table
from unheard.evaluation.hear.suite import EvaluationConfig, Mode, choose_tasks
from unheard.evaluation.report import Report
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent
from unheard.view.evaluation_page import write_evaluation


@documented(EvaluateOptions)
def evaluate(
    models: EmbeddingModel | str | Path | Sequence[EmbeddingModel | str | Path],
    tasks: str | Path,
    out: str | Path,
    *,
    names: Sequence[str] = (),
    mode: Mode = "heareval",
    seeds: int | None = None,
    published: Published = "no",
    hop: float | None = None,
    pool: Literal["mean", "mean+std", "max"] = "mean",
    layer: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Score models on HEAR tasks and compare them with a random encoder and a log-mel baseline.

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
        A folder of task folders in the layout of hear-preprocess.
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
    runtime = Runtime(published, hop, pool, layer)
    plan = EvaluationConfig(
        mode, seeds=_seeds(mode, seeds), names=tuple(names), device=torch_device(device), runtime=runtime
    )
    folder, selected = Path(out), choose_tasks(tasks, plan.names)
    if folder.exists() and not resume:
        refuse_existing(
            folder, overwrite, "choose another -o, replace it with --overwrite, or continue it with --resume"
        )
        if not any(folder.glob("results-*.json")) and not any(folder.glob(f"embeddings/*/*/{PROVENANCE_FILE}")):
            raise ConfigError(
                f"{folder} is not an evaluation, so --overwrite does not replace it; choose another -o, or delete it"
                " yourself"
            )
    several = [models] if isinstance(models, EmbeddingModel | str | Path) else list(models)
    compared = _encoders_to_compare(several, plan)
    with locked_folder(folder):
        if not resume:
            _clear(folder)
        report = suite.evaluate(compared, selected, folder, plan, track, log)
        write_evaluation(report, evaluation_table(report), folder / f"results-{plan.mode}")
    return report


def _clear(folder: Path) -> None:
    """Delete the files of an evaluation, and no other files."""
    for name in ("embeddings", "fits", "scores", suite.FAILURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    for mode, kind in product(get_args(Mode), ("csv", "json", "md", "html", "png")):
        (folder / f"results-{mode}.{kind}").unlink(missing_ok=True)


def _seeds(mode: Mode, seeds: int | None) -> int:
    """Return the number of seeds; refuse one that does not fit the mode."""
    if seeds is not None and mode != "robust":
        raise ConfigError("--seeds needs --mode robust; the mode heareval has one seed")
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {seeds}")
    return EvaluationConfig.seeds if seeds is None else seeds


def _encoders_to_compare(models: Sequence[EmbeddingModel | str | Path], plan: EvaluationConfig) -> list[Encoder]:
    """Return the models, the random encoder and log-mel of the first, with distinct names."""
    if not models:
        raise ConfigError("give at least one model")
    own, *baselines = encoders(models[0], plan.device, plan.runtime)
    compared = [own, *(encoder(each, plan.device, plan.runtime) for each in models[1:]), *baselines]
    refuse_same_names([each.name for each in compared])
    return compared
