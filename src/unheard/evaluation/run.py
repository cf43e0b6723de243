"""``unheard.evaluate``: a model, task folders and a place for the results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from unheard.embedding.embedder import Model
from unheard.errors import ConfigError
from unheard.evaluation import suite
from unheard.evaluation.encoders import encoders
from unheard.evaluation.results import write
from unheard.evaluation.suite import Plan, Report, choose_tasks
from unheard.progress import Track, silent


def evaluate(
    model: Model | str | Path,
    tasks: str | Path,
    out: str | Path,
    plan: Plan | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Score a model on HEAR task folders, beside an untrained encoder and log-mel; writes tables beside published numbers into ``out``.

    Parameters
    ----------
    model : Model, path or str
        Also ``hear:MODULE[:WEIGHTS]``, any module with the HEAR API, ``xares:MODULE[:CLASS]``, or ``embeddings:FOLDER``, what
        heareval or an earlier evaluation left there.
    tasks : path
        A folder of task folders as hear-preprocess writes them.
    plan : Plan, optional
        Protocol, grid points, seeds, tasks and device; the published protocol on all tasks when left out.
    resume : bool
        Go on with what is in ``out``: embeddings, fits and scores that are there are not computed again.

    Returns
    -------
    Report
        Results, and the tasks that failed with the reason; the others are finished either way.

    Raises
    ------
    ConfigError
        When ``out`` exists, a task or the module does not.
    """
    plan = plan or Plan()
    place, chosen = Path(out), choose_tasks(tasks, plan.names)
    if place.exists() and not resume:
        if not overwrite:
            raise ConfigError(f"{place} exists; choose another -o, replace it with --overwrite, or go on with it by --resume")
        if not any((place / name).exists() for name in ("embeddings", "results.json")):
            raise ConfigError(f"{place} is no evaluation, so --overwrite does not replace it; choose another -o, or remove it yourself")
    compared = encoders(model, plan.device)
    if place.exists() and not resume:
        shutil.rmtree(place)
    report = suite.evaluate(compared, chosen, place, plan, track, say)
    write(report, place)
    return report
