"""Callbacks of a training run, and the value that a run returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unheard.data.store import Store
from unheard.progress import Track, silent
from unheard.recipes.recipe import Recipe
from unheard.trackers import TrackerName
from unheard.training.watch.plan import WatchedTable, WatchPlan, no_table


@dataclass(frozen=True)
class Run:
    """A run folder and its progress.

    Parameters
    ----------
    folder : Path
    step : int
        Optimiser steps done.
    total : int
        Optimiser steps of the whole run.
    requeue : bool
        Whether SIGTERM or SIGUSR1 of a batch system ended the run early: it is to be started again.
    """

    folder: Path
    step: int
    total: int
    requeue: bool = False

    def __repr__(self) -> str:
        state = "finished" if self.finished else "not finished"
        return f"Run({str(self.folder)!r}, step {self.step} of {self.total}, {state})"

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.step >= self.total


@dataclass(frozen=True)
class Callbacks:
    """Functions that a run calls while it trains; the defaults do nothing.

    Parameters
    ----------
    log : callable
        Receives lines of text, without newline.
    progress : Track
        Wraps the iteration over the files while the corpus is read, for a progress bar.
    show_progress : bool
        Print the training progress on stderr.
    on_end : callable
        Called once after the last step, with the run folder and its corpus.
    on_save : callable
        Called with the run folder after every checkpoint, in the first process.
    on_stop : callable
        Called in every process when SIGTERM or SIGUSR1 ended the steps early, after the checkpoint is saved and before
        the handlers of the caller are restored.
    tracker : {"tensorboard", "wandb", "mlflow"}, optional
        Where the metrics are also sent; default: TensorBoard, if it is installed.
    watch : callable
        Reads the labelled table that a run scores while it trains.
    """

    log: Callable[[str], None] = lambda text: None
    progress: Track = silent
    show_progress: bool = False
    on_end: Callable[[Path, Store], None] = lambda run, store: None
    on_save: Callable[[Path], None] = lambda run: None
    on_stop: Callable[[], None] = lambda: None
    tracker: TrackerName | None = None
    watch: Callable[[WatchPlan, Recipe], WatchedTable] = no_table
