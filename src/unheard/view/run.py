"""What a finished run shows: its error on hidden patches, its curve, and what it makes of some of its own sounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.data.shards import SpecStore
from unheard.embedding.embedder import Model
from unheard.errors import DataError, UnheardError
from unheard.evaluation.hidden import corpus_error
from unheard.view.axes import FONT, caption, new_figure, save
from unheard.view.reconstruction import figure as reconstruction_figure
from unheard.view.window import reconstruct_window, window_of
from unheard.weights.checkpoint import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 3  # figures of a run; our choice
MASKS = ("random", "vertical", "chessboard")


def finish(run: Path, store: SpecStore, say: Callable[[str], None]) -> None:
    """Measure and draw a finished run into ``hidden_error.json`` and ``figures/``.

    What cannot be done, for want of matplotlib, a pixel head or long enough clips, is said and left out.
    """
    saved = load_model(run)
    try:
        save(curve_figure(run), run / "figures" / "curves.png")
        if "reconstruct" not in saved.learner.objectives:
            return
        error = corpus_error(saved, store)
        (run / "hidden_error.json").write_text(json.dumps(asdict(error), indent=2) + "\n")
        say(error.line())
        _examples(run, Model(saved), store)
        say(f"figures in {run / 'figures'}")
    except DataError as error:
        say(f"not measured: {error}")
    except UnheardError as error:
        say(f"no figures: {error}")


def _examples(run: Path, model: Model, store: SpecStore) -> None:
    """Reconstructions of the liveliest windows among some clips spread over the corpus."""
    width, hop = model.grid.frames, model.config.frontend.hop_size / model.config.frontend.sample_rate
    long = np.flatnonzero(store.frames >= min(width, int(store.frames.max())))
    tried = long[np.linspace(0, len(long) - 1, min(len(long), 24)).astype(int)]
    lively: list[tuple[float, int, int]] = []
    for clip in np.unique(tried):
        spec = store.clip(int(clip))
        starts = range(0, max(1, len(spec) - width + 1), max(1, width // 2))
        moving = {start: float(spec[start : start + width].std(axis=0).mean()) for start in list(starts)[:200]}
        best = max(moving, key=lambda start: moving[start])
        lively.append((moving[best], int(clip), best))
    for number, (_, clip, start) in enumerate(sorted(lively, reverse=True)[:EXAMPLES]):
        window = window_of(model, store.clip(clip)[start:], Path(store.names[clip]).name, start * hop)
        shown = reconstruct_window(model, window, MASKS[number % len(MASKS)])
        save(reconstruction_figure(shown), run / "figures" / f"reconstruction-{number + 1}.png")


def curve_figure(run: Path) -> Figure:
    """Loss, learning rate and speed over the steps of a run.

    Raises
    ------
    DataError
        When the run has written no row yet.
    """
    rows = read_metrics(run)
    if not rows:
        raise DataError(f"{run} has no metrics yet; let it train for some steps first")
    made, grid = new_figure(8.0, 2.4, 1, 3)
    steps = [row["step"] for row in rows]
    losses, rate, speed = grid[0]
    for name in [key for key in rows[0] if key.startswith("loss")]:
        if name == "loss" or sum(key.startswith("loss/") for key in rows[0]) > 1:
            losses.plot(steps, [row[name] for row in rows], linewidth=1.2, label=name)
    losses.legend(fontsize=FONT, frameon=False)
    rate.plot(steps, [row["learning_rate"] for row in rows], linewidth=1.2, color="tab:green")
    speed.plot(steps, [row["clips_per_second"] for row in rows], linewidth=1.2, color="tab:purple")
    for axes, title in zip(grid[0], ("loss", "learning rate", "clips per second"), strict=True):
        caption(axes, title)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    return made


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a torn last line is left out."""
    file = run / "metrics.jsonl"
    rows = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
