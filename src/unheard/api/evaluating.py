"""Evaluation of models on HEAR task folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.loading import refuse_same_names
from unheard.errors import ConfigError
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.embeddings import PROVENANCE_FILE
from unheard.evaluation.hear.encoders import Encoder, encoder, encoders
from unheard.evaluation.hear.report import Report
from unheard.evaluation.hear.suite import EvaluationConfig, Mode, choose_tasks
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent
from unheard.view.evaluation_page import write_evaluation


def evaluate(
    model: EmbeddingModel | str | Path,
    tasks: str | Path,
    out: str | Path,
    plan: EvaluationConfig | None = None,
    *,
    compare: Sequence[EmbeddingModel | str | Path] = (),
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Score a model on HEAR tasks and compare it with a random encoder and a log-mel baseline.

    Writes ``results-MODE.csv`` (one row per score), ``.json``, ``.md`` and ``.html`` with published results, and, if
    matplotlib is installed, ``.png`` into ``out``. The results of the other mode are kept.

    Parameters
    ----------
    model : Model, path or str
        Also ``hf:DIR`` for the folder of a Hugging Face audio encoder, ``hear:MODULE[:WEIGHTS]`` for a module with the
        HEAR API, ``xares:MODULE[:CLASS]``, or ``embeddings:FOLDER`` written by heareval or an earlier evaluation. An
        X-ARES module is identified by this text only, so ``resume`` does not detect changes of its code or weights.
    tasks : path
        A folder of task folders in the layout of hear-preprocess.
    plan : EvaluationConfig, optional
        Protocol, grid points, seeds, tasks and device; default: the published protocol on all tasks.
    compare : sequence of Model, path or str
        Other models for the same table; the random encoder and log-mel baseline are those of ``model``.
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
    plan = plan or EvaluationConfig()
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
    compared = _encoders_to_compare(model, compare, plan)
    with locked_folder(folder):
        if not resume:
            _clear(folder)
        report = suite.evaluate(compared, selected, folder, plan, track, log)
        write_evaluation(report, folder / f"results-{plan.mode}")
    return report


def _clear(folder: Path) -> None:
    """Delete the files of an evaluation, and no other files."""
    for name in ("embeddings", "fits", "scores", suite.FAILURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    for mode, kind in product(get_args(Mode), ("csv", "json", "md", "html", "png")):
        (folder / f"results-{mode}.{kind}").unlink(missing_ok=True)


def _encoders_to_compare(
    model: EmbeddingModel | str | Path, compare: Sequence[EmbeddingModel | str | Path], plan: EvaluationConfig
) -> list[Encoder]:
    """Return the model, those compared with it, the random encoder and log-mel, with distinct names."""
    own, *baselines = encoders(model, plan.device, plan.runtime)
    compared = [own, *(encoder(each, plan.device, plan.runtime) for each in compare), *baselines]
    refuse_same_names([each.name for each in compared])
    return compared
