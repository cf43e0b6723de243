"""The kinds of figures: which windows and masks each one shows.

The masks are those of figures 2 to 9 of the MSM-MAE paper (Niizumi et al., PMLR 166, 2022), for any models and sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from unheard.audio.frontend import MIN_STD
from unheard.embedding.embedder import Model
from unheard.embedding.loading import name_of
from unheard.errors import ConfigError, DataError
from unheard.model.patches import Grid
from unheard.view.axes import SpectrogramAxes
from unheard.view.figures.panels import (
    AttentionRow,
    Column,
    Panel,
    attention_grid,
    mean_squared_error,
    reconstruction_grid,
)
from unheard.view.window import Window, attention_window, loud_patches, reconstruct_window, take_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FigureKind: TypeAlias = Literal["masks", "ratios", "strips", "attention", "durations", "patches"]
RATIOS = (0.40, 0.50, 0.75, 0.90, 0.95, 0.98, 0.99)
"""Mask ratios of the paper; the number of masked patches is round(N ratio), and one stays visible at least."""
STRIPS = ("vertical", "horizontal", "chessboard")
RANDOM_MASKS = 3
POINTS = 2
"""Reference patches of an attention figure, as in the paper."""
MOST_POINTS = 8
"""Largest number of reference patches in a figure (our choice)."""
FRACTIONS = (0.25, 0.5, 1.0)
"""Parts of the window of a single model in a figure of durations (our choice)."""
MOST_PANELS = 12
"""Largest number of models times sounds in a figure (our choice)."""


@dataclass(frozen=True)
class FigurePlan:
    """What a figure shows.

    Parameters
    ----------
    mask_ratio : float, optional
        Of random masks. Default: that of the training of each model.
    seed : int
        Seed of the first mask.
    start : float
        Start of the windows in seconds.
    at : sequence of (frequency, time), optional
        Indices of the reference patches of an attention figure. Default: two loud ones of each sound.
    """

    mask_ratio: float | None = None
    seed: int = 0
    start: float = 0.0
    at: Sequence[tuple[int, int]] | None = None


def draw_figure(kind: str, models: Sequence[Model], sounds: Sequence[Path], plan: FigurePlan = FigurePlan()) -> Figure:
    """Plot a figure.

    Raises
    ------
    ConfigError
        When the kind is unknown, an option does not belong to it, or there are too many panels.
    CheckpointError
        When a model cannot reconstruct.
    """
    if kind not in get_args(FigureKind):
        raise ConfigError(f"unknown figure {kind!r}; choose one of {', '.join(get_args(FigureKind))}")
    if not models or not sounds:
        raise DataError("a figure needs at least one model and one sound; give MODEL... AUDIO...")
    _refuse_twice(models)
    if len(models) * len(sounds) > MOST_PANELS:
        raise ConfigError(
            f"{len(models)} models and {len(sounds)} sounds do not fit a figure; give at most {MOST_PANELS} pairs"
        )
    if plan.at is not None and len(plan.at) > MOST_POINTS:
        raise ConfigError(f"--at was given {len(plan.at)} times; a figure has at most {MOST_POINTS} reference patches")
    if plan.at is not None and kind != "attention":
        raise ConfigError(f"--at selects reference patches of attention; leave it out for {kind}")
    if plan.mask_ratio is not None and kind in ("attention", "ratios", "strips"):
        raise ConfigError(f"the figure {kind} has no single mask ratio; leave --mask-ratio out")
    if kind == "attention":
        return attention_grid(_attention(models, sounds, plan))
    if kind in ("durations", "patches"):
        return reconstruction_grid([_over_models(kind, models, sound, plan) for sound in sounds])
    make = {"masks": _masks, "ratios": _ratios, "strips": _strips}[kind]
    titles = [(model, sound, _title(model, sound, models)) for sound in sounds for model in models]
    windows = [(model, take_window(model, sound, plan.start), title) for model, sound, title in titles]
    return reconstruction_grid([Column(title, make(model, window, plan)) for model, window, title in windows])


def _refuse_twice(models: Sequence[Model]) -> None:
    """Refuse a model that is given twice: its panels would be equal."""
    origins = [str(model.origin) for model in models if model.origin]
    names = [str(Path(each).resolve()) if Path(each).exists() else each for each in origins]
    if again := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ConfigError(f"the model {again[0]} is given twice; give each model once")


def _title(model: Model, sound: Path, models: Sequence[Model]) -> str:
    return sound.name if len(models) == 1 else f"{sound.name}, {_name(model)}"


def _name(model: Model) -> str:
    return name_of(model) if model.origin else model.config.name


def _panel(model: Model, window: Window, case: str, mask: str, ratio: float | None, seed: int) -> Panel:
    shown = reconstruct_window(model, window, mask, ratio, seed)
    std = np.asarray(model.statistics.with_min_std(MIN_STD).std, np.float32)
    return Panel(case, shown, mean_squared_error(shown, np.broadcast_to(std, (len(shown.spec),))))


def _masks(model: Model, window: Window, plan: FigurePlan) -> list[Panel]:
    ratio = model.config.model.mask_ratio if plan.mask_ratio is None else plan.mask_ratio
    return [
        _panel(model, window, f"random mask {number + 1}, ratio {ratio:.2f}", "random", ratio, plan.seed + number)
        for number in range(RANDOM_MASKS)
    ]


def _ratios(model: Model, window: Window, plan: FigurePlan) -> list[Panel]:
    panels = [_panel(model, window, "", "random", ratio, plan.seed) for ratio in RATIOS]
    return [
        replace(panel, case=f"ratio {ratio:.2f}, {int((~panel.shown.hidden).sum())} visible")
        for panel, ratio in zip(panels, RATIOS, strict=True)
    ]


def _strips(model: Model, window: Window, plan: FigurePlan) -> list[Panel]:
    panels = [_panel(model, window, mask, mask, None, plan.seed) for mask in STRIPS]
    return [replace(panel, case=f"{panel.case}, {panel.shown.hidden.mean():.0%} masked") for panel in panels]


def _over_models(kind: str, models: Sequence[Model], sound: Path, plan: FigurePlan) -> Column:
    """Return the reconstructions of a sound by models of several durations or patch sizes."""
    if kind == "durations" and len(models) == 1:
        window = take_window(models[0], sound, plan.start)
        parts = [(models[0], _shortened(models[0], window, fraction)) for fraction in FRACTIONS]
    else:
        by_size: Callable[[Model], tuple[float, ...]] = _seconds if kind == "durations" else _patch
        parts = [(model, take_window(model, sound, plan.start)) for model in sorted(models, key=by_size)]
    panels = []
    for model, window in parts:
        seconds, (bands, frames) = window.spec.shape[1] * window.scale.hop_seconds, model.grid.patch_size
        case = f"{seconds:.2f} s" if kind == "durations" else f"patches of {bands} x {frames}"
        panel = _panel(model, window, case, "random", plan.mask_ratio, plan.seed)
        panels.append(replace(panel, model=_name(model) if len(models) > 1 else ""))
    return Column(sound.name, panels, with_input=False)


def _seconds(model: Model) -> tuple[float, ...]:
    return (model.grid.frames * model.config.frontend.hop_size / model.sample_rate,)


def _patch(model: Model) -> tuple[float, ...]:
    return model.grid.patch_size[0] * model.grid.patch_size[1], *model.grid.patch_size


def _shortened(model: Model, window: Window, fraction: float) -> Window:
    """Return the first part of a window, in whole patches."""
    full, pt = model.grid, model.grid.patch_size[1]
    frames = min(window.spec.shape[1], max(1, round(fraction * full.time)) * pt)
    normal = window.normal.clone()
    normal[..., frames:] = 0
    grid = Grid(full.freq, full.real_columns(frames), full.patch_size, full.order)
    scale = SpectrogramAxes(window.scale.mel_hz, window.scale.hop_seconds, window.scale.start)
    return Window(window.spec[:, :frames], normal, grid, scale, window.title)


def _attention(models: Sequence[Model], sounds: Sequence[Path], plan: FigurePlan) -> list[AttentionRow]:
    rows = []
    for sound in sounds:
        for model in models:
            window = take_window(model, sound, plan.start)
            maps = attention_window(model, window, plan.at or loud_patches(window, POINTS))
            rows.append(AttentionRow(_title(model, sound, models), window, maps))
    if len({len(row.maps) for row in rows}) > 1:
        raise DataError("some sounds are shorter than two patches; give longer ones, or one patch with --at")
    return rows
