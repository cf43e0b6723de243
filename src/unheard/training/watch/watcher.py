"""Scores of a labelled table during training: on a copy of the model, in the first process, without side effects."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from unheard.data.corpus import root_of
from unheard.data.store import Store
from unheard.objectives.base import Batch
from unheard.recipes.learner import build
from unheard.training.engine import Engine
from unheard.training.parallel.sharding import whole_tensors
from unheard.training.session import Session
from unheard.training.watch.plan import WatchedTable, chosen_interval, share_of
from unheard.weights.checkpoint import Provenance, SavedModel, load_weights


class Watcher:
    """Scores the watched table of a run.

    The weights are copied into a second model, so that modes, gradients and teachers of the trained one stay as they
    are. The states of the random generators are restored. Only the first process computes; the others wait.

    Parameters
    ----------
    session : Session
        With a plan.
    engine : Engine
    table : WatchedTable, optional
        The table in memory; None in all processes but the first.
    """

    def __init__(self, session: Session, engine: Engine, table: WatchedTable | None) -> None:
        self.session, self.engine, self.table = session, engine, table
        self.initial: dict[str, float] = {}
        """Scores before the first step."""
        self._copy: SavedModel | None = None

    def begin(self, store: Store, batch: Batch, step: int) -> list[str]:
        """Score the model before the first step, and choose the interval if it is not given.

        Parameters
        ----------
        store : Store
            The training corpus.
        batch : Batch
            For the time of a step.
        step : int
            Steps done; a resumed run is not scored here, because its interval is stored.

        Returns
        -------
        list of str
            Lines for the user. `session` then has the interval, the same in every process.
        """
        plan, total = self.session.watch, self.session.total
        assert plan is not None, "only sessions with a plan are watched"
        about = [] if self.table is None else self.table.about()
        warnings = [] if self.table is None else self.table.overlap(store, root_of(self.session.data))
        if step and plan.every:
            return [*about, f"scored every {plan.every} steps", *warnings]
        seconds = self.engine.benchmark_step(batch)
        self.initial = self.scores()
        spent = self.initial.get("probe/seconds", 0.0)
        chosen = chosen_interval(total, seconds, spent, self.session.recipe.training.log_every)
        common = int(self.engine.sum(torch.tensor(chosen if self.engine.rank == 0 else 0, device=self.engine.device)))
        plan = replace(plan, every=plan.every or common)
        share = share_of(plan, total, seconds, spent)
        cost = f"scored every {plan.every} steps, about {share:.1%} of the time of the training"
        self.session = replace(self.session, watch=plan)
        return [*about, cost, *warnings]

    def scores(self) -> dict[str, float]:
        """Return the scores of the current weights, and the seconds they took; empty in all processes but the first."""
        found: dict[str, float] = {}
        tensors = whole_tensors(self.engine.learner.export_state_dict(), self.table is not None)
        if self.table is not None:
            begin = time.perf_counter()
            with same_random_state():
                found = dict(self.table.score(self._current(tensors), str(self.engine.device)))
            found["probe/seconds"] = time.perf_counter() - begin
        if self.engine.processes > 1:
            self.engine.wait()
        return found

    @torch.inference_mode(mode=False)
    def _current(self, tensors: dict[str, Tensor]) -> SavedModel:
        """Return a copy of the trained model, as a model folder would hold it."""
        recipe = self.session.recipe
        if self._copy is None:
            learner = build(recipe, seed=0)
            self._copy = SavedModel(learner, recipe, self.session.statistics, Provenance()).frozen()
        load_weights(self._copy.learner, tensors, "the trained model")
        return self._copy


@contextmanager
def same_random_state() -> Iterator[None]:
    """Restore the states of the random generators of Python, NumPy and torch at the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - state of others
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
