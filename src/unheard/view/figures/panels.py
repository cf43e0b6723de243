"""Grids of spectrograms, one colour scale for each sound: masked inputs with reconstructions, and attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from unheard.view.attention import AttentionMap
from unheard.view.axes import (
    FONT,
    SPECTRUM,
    SpectrogramAxes,
    caption,
    colour_bar,
    new_figure,
    patch_box,
    robust_limits,
    show,
)
from unheard.view.reconstruction import Reconstruction
from unheard.view.window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 2.6, 1.15
"""Inches of a panel (our choice)."""

CLOSE, BANDS = 12, 80
"""Of so many bands: labels of the frequency axis that are closer are left out (our choice)."""

TITLE = 36
"""Letters that fit above a panel (our choice)."""

MASKED = "0.75"
"""Grey of masked patches."""

ATTENTION = "viridis"


@dataclass(frozen=True)
class Panel:
    """A reconstruction in a figure.

    Parameters
    ----------
    case : str
        What distinguishes it from others of the sound, for its title.
    shown : Reconstruction
    mse : float
        Mean squared error on masked patches, in units of the normalised input of the model.
    model : str
        Name of the model, if the figure has several in a column.
    """

    case: str
    shown: Reconstruction
    mse: float
    model: str = ""


@dataclass(frozen=True)
class Column:
    """The reconstructions of one sound by one model, or the same sound by several.

    Parameters
    ----------
    title : str
    panels : sequence of Panel
        One for each row of the figure.
    with_input : bool
        Whether the first row shows the input of the first panel, for panels of one window.
    """

    title: str
    panels: Sequence[Panel]
    with_input: bool = True


@dataclass(frozen=True)
class AttentionRow:
    """The attention of reference patches of one sound.

    Parameters
    ----------
    title : str
    window : Window
    maps : sequence of AttentionMap
    """

    title: str
    window: Window
    maps: Sequence[AttentionMap]


def reconstruction_grid(columns: Sequence[Column]) -> Figure:
    """Plot the input of each sound, and below it each masked input next to its reconstruction.

    All panels of a column have one colour scale, that of its longest input.
    """
    first = int(columns[0].with_input)
    rows = first + len(columns[0].panels)
    figure, grid = new_figure(1.2 + 2 * WIDTH * len(columns), 0.5 + HEIGHT * rows, rows, 2 * len(columns))
    for number, column in enumerate(columns):
        left, right = grid[:, 2 * number], grid[:, 2 * number + 1]
        limits = robust_limits(max((each.shown.spec for each in column.panels), key=lambda spec: spec.shape[1]))
        if first:
            shown = column.panels[0].shown
            _small(left[0], shown.spec, shown.scale, limits)
            caption(left[0], f"{column.title}: input")
            right[0].set_visible(False)
        for row, panel in enumerate(column.panels, start=first):
            image = _pair(left[row], right[row], panel, limits)
            prefix = f"{column.title}: " if not first and row == 0 else ""
            caption(left[row], _fitted(prefix, panel.case))
            caption(right[row], _fitted(f"{panel.model}, " if panel.model else "", f"MSE {panel.mse:.3f}"))
        _label_time(left, right)
        colour_bar(figure, image, list(right[first:]), "log-mel (nat)", 12 * rows)
    return figure


def _pair(left: Axes, right: Axes, panel: Panel, limits: tuple[float, float]) -> Any:
    """Plot a masked input and its reconstruction. Return the image."""
    shown = panel.shown
    bands, frames = shown.spec.shape
    hidden = _stretch(shown.hidden, shown.patch_size)[:bands, :frames]
    left.set_facecolor(MASKED)
    _small(left, np.where(hidden, np.float32(np.nan), shown.spec), shown.scale, limits)
    image = _small(right, shown.drawn, shown.scale, limits)
    right.set_ylabel("")
    return image


def _small(
    axes: Axes, values: Any, scale: SpectrogramAxes, limits: tuple[float, float], colours: str = SPECTRUM
) -> Any:
    """Plot a spectrogram as `show`, without labels that would overlap in a small panel. Return the image."""
    image = show(axes, values, scale, limits, colours)
    ticks = [
        (float(place), text.get_text()) for place, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    ]
    kept: list[tuple[float, str]] = []
    for place, text in reversed(ticks):
        if not kept or kept[-1][0] - place >= CLOSE * len(values) / BANDS:
            kept.append((place, text))
    axes.set_yticks([place for place, _ in kept], [text for _, text in kept])
    return image


def _label_time(*sides: Sequence[Axes]) -> None:
    """Label the time at the last row; rows above have the same scale only if they end at the same time."""
    for side in sides:
        for axes in side:
            axes.tick_params(labelsize=FONT - 1)
        same = len({axes.get_xlim() for axes in side if axes.get_visible()}) == 1
        for axes in side[:-1]:
            axes.set_xlabel("" if same else "time (s)", fontsize=FONT)
        side[-1].set_xlabel("time (s)", fontsize=FONT)


def attention_grid(rows: Sequence[AttentionRow]) -> Figure:
    """Plot one row for each sound: the log-mel with the reference patches, and the attention map of each.

    Attention is relative to uniform attention, with one colour scale for all maps.
    """
    count = len(rows[0].maps)
    figure, grid = new_figure(1.2 + WIDTH * (1 + count), 0.5 + 1.25 * len(rows), len(rows), 1 + count)
    relative = [[each.weights * each.weights.size for each in row.maps] for row in rows]
    top = max(1.5, float(np.percentile(np.concatenate([each.ravel() for row in relative for each in row]), 99.5)))
    for axes, row, maps in zip(grid, rows, relative, strict=True):
        spec, scale, patch = row.window.spec, row.window.scale, row.window.grid.patch_size
        image = _small(axes[0], spec, scale, robust_limits(spec))
        caption(axes[0], row.title)
        for number, (side, map_, weights) in enumerate(zip(axes[1:], row.maps, maps, strict=True)):
            wide = _stretch(weights, patch)[: spec.shape[0], : spec.shape[1]]
            seen = _small(side, wide.astype(np.float32), scale, (0.0, top), ATTENTION)
            side.set_ylabel("")
            caption(side, f"attention of patch {'ABCDEFGH'[number]}: {_place(map_, scale, patch)}")
            for place in (axes[0], side):
                _outline(place, scale, patch, map_)
            corner = scale.start + map_.column * patch[1] * scale.hop_seconds, map_.row * patch[0] - 0.5
            axes[0].annotate("ABCDEFGH"[number], corner, color="white", fontsize=FONT, weight="bold")
        colour_bar(figure, image, axes[0], "log-mel (nat)", 15)
    _label_time(*(grid[:, column] for column in range(1 + count)))
    colour_bar(figure, seen, list(grid[:, 1:].ravel()), "attention / uniform", 15 * len(rows))
    return figure


def _fitted(name: str, text: str) -> str:
    """Return a name and a text, with the name shortened so that they fit above a panel."""
    most = max(3, TITLE - len(text))
    return f"{name if len(name) <= most else f'{name[: most - 3]}... '}{text}"


def _outline(axes: Axes, scale: SpectrogramAxes, patch: tuple[int, int], map_: AttentionMap) -> None:
    patch_box(axes, scale, patch, map_.row, map_.column, edgecolor="black", linewidth=2.4)
    patch_box(axes, scale, patch, map_.row, map_.column, edgecolor="white", linewidth=1.2)


def _place(map_: AttentionMap, scale: SpectrogramAxes, patch: tuple[int, int]) -> str:
    """Return the centre of a patch as text."""
    time = scale.start + (map_.column + 0.5) * patch[1] * scale.hop_seconds
    hertz = np.interp((map_.row + 0.5) * patch[0] - 0.5, np.arange(len(scale.mel_hz)), scale.mel_hz)
    return f"{time:.2f} s, {hertz:.0f} Hz"


def _stretch(values: Any, patch: tuple[int, int]) -> Any:
    """Repeat the value of each patch over its bands and frames."""
    return np.repeat(np.repeat(values, patch[0], axis=0), patch[1], axis=1)


def mean_squared_error(shown: Reconstruction, std: Float32[np.ndarray, " F"]) -> float:
    """Return the mean squared error on masked patches, in units of the normalised input."""
    bands, frames = shown.spec.shape
    hidden = _stretch(shown.hidden, shown.patch_size)[:bands, :frames]
    return float((((shown.drawn - shown.spec) / std[:, None])[hidden] ** 2).mean())
