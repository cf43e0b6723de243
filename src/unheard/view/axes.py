"""Common parts of spectrogram figures: time and frequency axes, colours, and saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.errors import DataError, require
from unheard.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPECTRUM = "magma"
TICKS_HZ = (200, 500, 1000, 2000, 4000, 8000, 16000)
FONT = 8  # points


@dataclass(frozen=True)
class SpectrogramAxes:
    """Frequency and time axes of a spectrogram.

    Parameters
    ----------
    mel_hz : tuple of float
        Centre frequency of each mel band.
    hop_seconds : float
        Time from one frame to the next.
    start : float
        Time of the first frame in seconds.
    """

    mel_hz: tuple[float, ...]
    hop_seconds: float
    start: float = 0.0

    @classmethod
    def of(cls, config: AnyFrontendConfig, start: float = 0.0) -> SpectrogramAxes:
        """Return the axes of a front end."""
        return cls(tuple(build_frontend(config).mel_centres().tolist()), config.hop_size / config.sample_rate, start)


def new_figure(width: float, height: float, rows: int, columns: int, **layout: Any) -> tuple[Figure, Any]:
    """Create a figure with a grid of axes, without changing the global state of matplotlib.

    Raises
    ------
    UnheardError
        When matplotlib is not installed.
    """
    require("matplotlib", "view")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **layout)
    for axes in grid.flat:
        axes.tick_params(labelsize=FONT)
        axes.xaxis.label.set_size(FONT)
        axes.yaxis.label.set_size(FONT)
    return figure, grid


def colour_bar(figure: Figure, image: Any, axes: Any, label: str, aspect: float = 30) -> None:
    """Add a colour bar to ``axes``."""
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=aspect)
    bar.set_label(label, fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)


def show(
    axes: Axes,
    values: Float[np.ndarray, "F T"],
    scale: SpectrogramAxes,
    limits: tuple[float, float],
    colours: str = SPECTRUM,
) -> Any:
    """Plot a spectrogram with time in seconds and frequency in Hz. Return the image."""
    bands, frames = values.shape
    end = scale.start + frames * scale.hop_seconds
    image = axes.imshow(
        values, origin="lower", aspect="auto", interpolation="nearest", cmap=colours, vmin=limits[0], vmax=limits[1],
        extent=(scale.start, end, -0.5, bands - 0.5),
    )  # fmt: skip
    ticks = [hz for hz in TICKS_HZ if scale.mel_hz[0] <= hz <= scale.mel_hz[-1]]
    axes.set_yticks(
        np.interp(ticks, scale.mel_hz, np.arange(bands)), [f"{hz // 1000} k" if hz >= 1000 else str(hz) for hz in ticks]
    )
    axes.set_ylabel("frequency (Hz)")
    return image


def caption(axes: Axes, text: str) -> None:
    """Set a small title at the left."""
    axes.set_title(text, loc="left", fontsize=9)


def patch_box(
    axes: Axes, scale: SpectrogramAxes, patch_size: tuple[int, int], row: int, column: int, **style: Any
) -> None:
    """Outline one patch of a spectrogram plotted by `show`; ``fill=True`` covers it."""
    from matplotlib.patches import Rectangle

    pf, pt = patch_size
    corner = (scale.start + column * pt * scale.hop_seconds, row * pf - 0.5)
    axes.add_patch(Rectangle(corner, pt * scale.hop_seconds, pf, **{"fill": False, **style}))


def robust_limits(values: Float32[np.ndarray, "F T"], low: float = 1, high: float = 99.7) -> tuple[float, float]:
    """Return colour limits that exclude extreme values."""
    bottom, top = np.percentile(values, [low, high])
    return float(bottom), float(max(top, bottom + 1e-3))


def save(figure: Figure, out: str | Path, formats: Sequence[str] = ("png", "pdf", "svg")) -> None:
    """Save a figure atomically; the file name suffix selects the format.

    Raises
    ------
    DataError
        When the suffix is not in ``formats``, or the file cannot be written.
    """
    path = Path(out)
    kind = path.suffix.lstrip(".").lower()
    if kind not in formats:
        raise DataError(f"{path}: a figure's name must end in {', '.join(f'.{name}' for name in formats)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            figure.savefig(unfinished, format=kind, dpi=200)
    except OSError as error:
        raise DataError(f"could not write {path}: {error.strerror or error}") from error
