"""Figures and measurements of a finished run: reconstruction error, training curves and example reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unheard.data.store import Store
from unheard.embedding.embedder import Model
from unheard.errors import DataError, UnheardError
from unheard.evaluation.reconstruction import corpus_reconstruction_error
from unheard.files import read_json_lines, write_json
from unheard.training.journal import SCORES
from unheard.view.axes import FONT, caption, new_figure, save
from unheard.view.reconstruction import figure as reconstruction_figure
from unheard.view.whole import write_kinds
from unheard.view.window import reconstruct_window, window_of
from unheard.weights.checkpoint import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 3  # number of example figures; our choice
EXAMPLE_SECONDS = 15.0  # longest part of the first example that is converted to sound; our choice
TRIED_CLIPS, TRIED_WINDOWS = 24, 200  # number of candidates for the examples; our choice
AUDIBLE = 9.0  # nats (39 dB) below the loudest frame down to which a frame counts as audible; our choice
SOUNDING = 0.9  # minimum fraction of audible frames; our choice
MOVING = 0.1  # minimum deviation over time in nats; a window below it is silence or a test tone; our choice
FEW_ROWS = 20  # below this number of rows, points are plotted, too; our choice
HEAD_NAMES = {"linear": "linear", "knn": "kNN"}
MASKS = ("random", "vertical", "chessboard")


def finish(run: Path, store: Store, log: Callable[[str], None]) -> None:
    """Write ``hidden_error.json`` and ``figures/`` of a finished run.

    A message is logged if matplotlib, a reconstruction objective or long clips are missing.
    """
    saved = load_model(run)
    try:
        save(curve_figure(run), run / "figures" / "curves.png")
        if "reconstruct" not in saved.learner.objectives:
            return
        error = corpus_reconstruction_error(saved, store)
        write_json(run / "hidden_error.json", asdict(error))
        log(error.line())
        _examples(run, Model(saved), store)
        log(f"figures in {run / 'figures'}")
    except DataError as error:
        log(f"not measured: {error}")
    except UnheardError as error:
        log(f"no figures: {error}")


def _examples(run: Path, model: Model, store: Store) -> None:
    """Write reconstructions of the most active windows, each with another mask."""
    hop = model.config.frontend.hop_size / model.config.frontend.sample_rate
    for number, (clip, start) in enumerate(most_active_windows(store, model.grid.frames, EXAMPLES)):
        window = window_of(model, store.clip(clip, start, model.grid.frames), Path(store.names[clip]).name, start * hop)
        shown = reconstruct_window(model, window, MASKS[number % len(MASKS)])
        save(reconstruction_figure(shown), run / "figures" / f"reconstruction-{number + 1}.png")
        if number == 0 and model.config.frontend.kind == "log-mel":
            whole = store.clip(clip, 0, round(EXAMPLE_SECONDS / hop))
            write_kinds(model, whole, run / "figures", "sound-1-")


def most_active_windows(store: Store, width: int, count: int) -> list[tuple[int, int]]:
    """Return clip and first frame of ``count`` windows from different clips.

    Windows without silence come first, then windows with a large variation over time.
    """
    long = np.flatnonzero(store.frames >= min(width, int(store.frames.max())))
    tried = long[np.linspace(0, len(long) - 1, min(len(long), TRIED_CLIPS)).astype(int)]
    found: list[tuple[tuple[bool, float], int, int]] = []
    for clip in np.unique(tried).tolist():
        step = max(1, width // 2)
        spec = store.clip(clip, 0, width + step * (TRIED_WINDOWS - 1))  # only the beginning of long recordings
        starts = range(0, max(1, len(spec) - width + 1), step)
        activity = {start: _activity(spec[start : start + width]) for start in starts}
        best = max(starts, key=lambda start: activity[start])
        found.append((activity[best], clip, best))
    return [(clip, start) for _, clip, start in sorted(found, reverse=True)[:count]]


def _activity(spec: Float[np.ndarray, "T F"]) -> tuple[bool, float]:
    """Return whether a window is audible nearly everywhere, and the deviation of its bands over time in nats."""
    loudest, change = spec.max(axis=1), float(spec.std(axis=0).mean())
    sounding = float((loudest > loudest.max() - AUDIBLE).mean())
    return sounding >= SOUNDING and change >= MOVING, change


def curve_figure(run: Path) -> Figure:
    """Plot loss, learning rate and speed over the steps of a run, and the scores of its watched table.

    Raises
    ------
    DataError
        When the run has no metrics yet.
    """
    rows = read_metrics(run)
    if not rows:
        raise DataError(f"{run} has no metrics yet; let it train for some steps first")
    watched = score_names(rows)
    fig, grid = new_figure(8.0 + 2.6 * bool(watched), 2.4, 1, 3 + bool(watched))
    style: dict[str, Any] = {"linewidth": 1.2, "marker": "o" if len(rows) < FEW_ROWS else None, "markersize": 3}

    def curve(axes: Any, name: str, **more: Any) -> None:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]  # skipped steps have no loss
        axes.plot([step for step, _ in points], [value for _, value in points], **{**style, **more})

    losses, rate, speed = grid[0][:3]
    names = list(dict.fromkeys(key for row in rows for key in row if key.startswith("loss")))
    for name in names:
        if name == "loss" or sum(key.startswith("loss/") for key in names) > 1:
            curve(losses, name, label=name)
    losses.legend(fontsize=FONT, frameon=False)
    curve(rate, "learning_rate", color="tab:green")
    curve(speed, "clips_per_second", color="tab:purple")
    titles = ["loss", "learning rate", "clips per second"]
    if watched:
        for name in watched:
            curve(grid[0][3], name, label=HEAD_NAMES[name.split("/")[1]], marker="o")
        grid[0][3].legend(fontsize=FONT, frameon=False)
        titles.append(f"labelled table: {watched[0].split('/')[2].replace('_', ' ')}")
    for axes, title in zip(grid[0], titles, strict=True):
        caption(axes, title)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    return fig


def score_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the scores of a watched table in rows of metrics, the linear head first."""
    found = dict.fromkeys(key for row in rows for key in row if key.startswith(SCORES))
    return sorted(found, key=lambda name: name.split("/")[1] != "linear")


def best_probe(rows: Iterable[Mapping[str, Any]]) -> tuple[str, float, int] | None:
    """Return metric, value and step of the best score of the linear head on the watched table; None without one."""
    rows = list(rows)
    names = [name for name in score_names(rows) if name.split("/")[1] == "linear"]
    found = [(row[names[0]], -row["step"]) for row in rows if names and row.get(names[0]) is not None]
    if not found:
        return None
    value, step = max(found)
    return names[0].split("/")[2], float(value), -int(step)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``; incomplete or damaged lines are skipped."""
    file = run / "metrics.jsonl"
    return read_json_lines(file)[0] if file.is_file() else []
