"""Evaluation of models on HEAR task folders."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

from unheard.embedding.embedder import Model
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
    model: Model | str | Path,
    tasks: str | Path,
    out: str | Path,
    plan: EvaluationConfig | None = None,
    *,
    beside: Sequence[Model | str | Path] = (),
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Score a model on HEAR task folders, beside an untrained encoder and log-mel; writes results into ``out``.

    Those are ``results-MODE.csv`` (one row a score), the same as ``.json``, ``.md`` and ``.html`` beside published
    numbers, and, where matplotlib is installed, ``.png``. The other protocol's stay.

    Parameters
    ----------
    model : Model, path or str
        Also ``hear:MODULE[:WEIGHTS]``, any module with the HEAR API, ``xares:MODULE[:CLASS]``, or
        ``embeddings:FOLDER``, what heareval or an earlier evaluation left there. A module is known by that text alone:
        ``resume`` does not see that its code or weights have changed.
    tasks : path
        A folder of task folders as hear-preprocess writes them.
    plan : Plan, optional
        Protocol, grid points, seeds, tasks and device; the published protocol on all tasks when left out.
    beside : sequence of Model, path or str
        Other models for the same table; the untrained encoder and log-mel are those of the first.
    overwrite : bool
        Remove what an earlier evaluation wrote into ``out``, and nothing else that lies there.
    resume : bool
        Go on with what is in ``out``: embeddings, fits and scores that are there are not computed again.

    Returns
    -------
    Report
        Results, and the tasks that failed with the reason; the others are finished either way.

    Raises
    ------
    ConfigError
        When ``out`` exists or another process writes into it, a task or a module does not exist, or two models have one
        name.
    """
    plan = plan or EvaluationConfig()
    place, chosen = Path(out), choose_tasks(tasks, plan.names)
    if place.exists() and not resume:
        refuse_existing(
            place, overwrite, "choose another -o, replace it with --overwrite, or go on with it by --resume"
        )
        if not any(place.glob("results-*.json")) and not any(place.glob(f"embeddings/*/*/{PROVENANCE_FILE}")):
            raise ConfigError(
                f"{place} is no evaluation, so --overwrite does not replace it; choose another -o, or remove it"
                " yourself"
            )
    compared = _encoders_to_compare(model, beside, plan)
    with locked_folder(place):
        if not resume:
            _clear(place)
        report = suite.evaluate(compared, chosen, place, plan, track, log)
        write_evaluation(report, place / f"results-{plan.mode}")
    return report


def _clear(place: Path) -> None:
    """Remove what an evaluation writes, and nothing else that lies there."""
    for name in ("embeddings", "fits", "scores", suite.FAILURES):
        shutil.rmtree(place / name, ignore_errors=True)
    for mode, kind in product(get_args(Mode), ("csv", "json", "md", "html", "png")):
        (place / f"results-{mode}.{kind}").unlink(missing_ok=True)


def _encoders_to_compare(
    model: Model | str | Path, beside: Sequence[Model | str | Path], plan: EvaluationConfig
) -> list[Encoder]:
    """The model, those beside it, the untrained encoder and log-mel, each with a name of its own."""
    own, *baselines = encoders(model, plan.device, plan.runtime)
    compared = [own, *(encoder(each, plan.device, plan.runtime) for each in beside), *baselines]
    name, times = Counter(each.name for each in compared).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"{times} rows would be called {name}; rename the folder or the weights of one, or leave out what is given"
            " twice"
        )
    return compared
