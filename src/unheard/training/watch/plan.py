"""Which labelled table a run scores while it trains, and in which steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unheard.data.leakage import content_of
from unheard.data.store import Store
from unheard.errors import ConfigError
from unheard.recipes.recipe import Recipe
from unheard.weights.checkpoint import SavedModel

SHARE = 0.03
"""Fraction of the training time that scores may take if their interval is chosen here (our choice)."""

MOST_SCORES = 100
"""Number of scores of a run if their interval is chosen here; a curve needs no more (our choice)."""


@dataclass(frozen=True)
class WatchPlan:
    """A labelled table that is scored while a run trains.

    Parameters
    ----------
    table : str
        Absolute path of the labels CSV.
    every : int
        Steps between two scores; 0 until it is chosen from the measured times.
    content : str
        SHA-256 of the table when the run started; empty if it is not compared.
    """

    table: str
    every: int = 0
    content: str = ""

    @classmethod
    def of(cls, table: str | Path | None, every: int | None) -> WatchPlan | None:
        """Return the plan of the options of a run; None without a table.

        Raises
        ------
        ConfigError
            When the interval is not positive, or is given without a table.
        """
        if every is not None and table is None:
            raise ConfigError("--watch-every needs --watch labels.csv, the table that is scored")
        if every is not None and every < 1:
            raise ConfigError(f"--watch-every must be at least 1 step; got {every}")
        if table is None:
            return None
        path = Path(table).resolve()
        return cls(str(path), every or 0, content_of([path])[0] if path.is_file() else "")

    def due(self, step: int, total: int) -> bool:
        """Return whether the table is scored after a step; it always is after the last one."""
        return step == total or (self.every > 0 and step % self.every == 0)


@runtime_checkable
class WatchedTable(Protocol):
    """A labelled table in memory, ready to be scored."""

    def score(self, saved: SavedModel, device: str) -> Mapping[str, float]:
        """Return the scores of a model, named as in ``metrics.jsonl``."""
        ...

    def about(self) -> list[str]:
        """Return what is scored, and what was left out, a text for each line."""
        ...

    def overlap(self, store: Store, root: Path) -> list[str]:
        """Return warnings about clips of the table that are in the training corpus below ``root``."""
        ...


def no_table(plan: WatchPlan, recipe: Recipe) -> WatchedTable:
    """Refuse a table: the caller of the run gives no function that reads one."""
    raise ConfigError(f"{plan.table} cannot be scored here; call unheard.pretrain, or give Callbacks a watch function")


def chosen_interval(total: int, step_seconds: float, score_seconds: float, log_every: int) -> int:
    """Return the steps between two scores so that they take at most `SHARE` of the time of the run.

    The score before the first step counts too. If not even two scores fit, the run is scored before the first and after
    the last step only.

    Parameters
    ----------
    total : int
        Steps of the run.
    step_seconds, score_seconds : float
        Measured times.
    log_every : int
        Steps between two rows of metrics; a longer interval is rounded up to a multiple, so that it adds no rows.
    """
    fitting = int(SHARE * total * step_seconds / max(score_seconds, 1e-9)) - 1
    every = math.ceil(total / min(max(fitting, 1), MOST_SCORES))
    rounded = math.ceil(every / log_every) * log_every
    return every if rounded > total else rounded


def share_of(plan: WatchPlan, total: int, step_seconds: float, score_seconds: float) -> float:
    """Return the time of all scores of a run as a fraction of the time of its steps."""
    return (1 + math.ceil(total / plan.every)) * score_seconds / (total * step_seconds)
