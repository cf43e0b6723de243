"""Figure of a reconstruction: input, reconstruction of masked patches, and error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32

from unheard.evaluation.reconstruction import ReconstructionError
from unheard.view.axes import SpectrogramAxes, caption, colour_bar, new_figure, patch_box, robust_limits, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADE = {"fill": True, "facecolor": "#6b7280", "alpha": 0.55, "edgecolor": "none", "linewidth": 0.0}
"""Appearance of masked patches."""


@dataclass(frozen=True)
class Reconstruction:
    """Input and reconstruction of one window.

    Parameters
    ----------
    spec : ndarray (F, T)
        Input log-mel spectrogram.
    drawn : ndarray (F, T)
        The spectrogram with predicted masked patches; visible patches are those of the input.
    hidden : ndarray (f, t)
        True on masked patches.
    patch_size : tuple of int
        Mel bands and frames of a patch.
    scale : SpectrogramAxes
    title : str
        Mask and sound, for the title.
    error : ReconstructionError
        Errors of the model and of the interpolation baselines on masked patches.
    """

    spec: Float32[np.ndarray, "F T"]
    drawn: Float32[np.ndarray, "F T"]
    hidden: Bool[np.ndarray, "f t"]
    patch_size: tuple[int, int]
    scale: SpectrogramAxes
    title: str
    error: ReconstructionError


def figure(shown: Reconstruction) -> Figure:
    """Plot the input, the reconstruction with the visible patches outlined, and the absolute error."""
    width = float(np.clip(2.5 + 2.2 * shown.spec.shape[1] * shown.scale.hop_seconds, 6.0, 11.0))
    fig, grid = new_figure(width, 5.4, 3, 1, sharex=True)
    top, middle, bottom = grid[:, 0]
    limits = robust_limits(shown.spec)
    show(top, shown.spec, shown.scale, limits)
    for row, column in np.argwhere(shown.hidden):
        patch_box(top, shown.scale, shown.patch_size, int(row), int(column), **SHADE)
    caption(top, f"input: {shown.title}; masked patches are shaded")
    image = show(middle, shown.drawn, shown.scale, limits)
    for row, column in np.argwhere(~shown.hidden):
        patch_box(middle, shown.scale, shown.patch_size, int(row), int(column), edgecolor="white", linewidth=0.7)
    caption(middle, f"reconstruction from the outlined patches, {shown.hidden.mean():.0%} masked")
    difference = np.abs(shown.drawn - shown.spec)
    wrong = show(bottom, difference, shown.scale, (0.0, robust_limits(difference)[1]), "viridis")
    name, best = shown.error.best
    caption(bottom, f"absolute error: {shown.error.model:.2f} of the variance; {name} baseline {best:.2f}")
    bottom.set_xlabel("time (s)")
    colour_bar(fig, image, [top, middle], "log-mel (nat)")
    colour_bar(fig, wrong, bottom, "error (nat)", 15)
    return fig
