"""What the model makes of what it did not hear: input, reconstruction and error, one above the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32

from unheard.evaluation.reconstruction import ReconstructionError
from unheard.view.axes import SpectrogramAxes, caption, colour_bar, new_figure, patch_box, robust_limits, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Reconstruction:
    """One window, as heard and as completed.

    Parameters
    ----------
    spec : ndarray (F, T)
        The input log-mel.
    drawn : ndarray (F, T)
        The same with its hidden patches predicted; visible patches are the input's.
    hidden : ndarray (f, t)
        True where a patch was hidden.
    patch_size : tuple of int
        Mel bands and frames of a patch.
    scale : Scale
        Axes.
    title : str
        Mask and sound, for the heading.
    error : HiddenError
        The model's error on hidden patches and that of the simple fill-ins.
    """

    spec: Float32[np.ndarray, "F T"]
    drawn: Float32[np.ndarray, "F T"]
    hidden: Bool[np.ndarray, "f t"]
    patch_size: tuple[int, int]
    scale: SpectrogramAxes
    title: str
    error: ReconstructionError


def figure(shown: Reconstruction) -> Figure:
    """Three rows over one time axis: the input; the reconstruction, with the patches the model heard outlined; the
    absolute error.
    """
    width = float(np.clip(2.5 + 2.2 * shown.spec.shape[1] * shown.scale.hop_seconds, 6.0, 11.0))
    made, grid = new_figure(width, 5.4, 3, 1, sharex=True)
    top, middle, bottom = grid[:, 0]
    limits = robust_limits(shown.spec)
    show(top, shown.spec, shown.scale, limits)
    caption(top, f"input: {shown.title}")
    image = show(middle, shown.drawn, shown.scale, limits)
    for row, column in np.argwhere(~shown.hidden):
        patch_box(middle, shown.scale, shown.patch_size, int(row), int(column), edgecolor="white", linewidth=0.7)
    caption(middle, f"reconstruction from the outlined patches, {shown.hidden.mean():.0%} hidden")
    difference = np.abs(shown.drawn - shown.spec)
    wrong = show(bottom, difference, shown.scale, (0.0, robust_limits(difference)[1]), "viridis")
    name, best = shown.error.best
    caption(bottom, f"absolute error: {shown.error.model:.2f} of the variance; {name} fill-in {best:.2f}")
    bottom.set_xlabel("time (s)")
    colour_bar(made, image, [top, middle], "log-mel (nat)")
    colour_bar(made, wrong, bottom, "error (nat)", 15)
    return made
