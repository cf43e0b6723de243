"""Where a patch looks: true attention of the last block, averaged over heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from unheard.view.axes import SpectrogramAxes, caption, colour_bar, new_figure, patch_box, robust_limits, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AttentionMap:
    """The attention of one patch.

    Parameters
    ----------
    row, column : int
        The reference patch: frequency from the lowest, time from the first.
    weights : ndarray (f, t)
        Attention it pays to each patch.
    """

    row: int
    column: int
    weights: Float32[np.ndarray, "f t"]


def figure(
    spec: Float32[np.ndarray, "F T"],
    gazes: Sequence[AttentionMap],
    patch_size: tuple[int, int],
    scale: SpectrogramAxes,
    title: str,
) -> Figure:
    """One row for each reference patch: the spectrogram with the patch boxed, and its attention over the same patches.

    Attention is shown relative to an even spread over all patches, on one colour scale for all rows.
    """
    width = float(np.clip(3.0 + 3.0 * spec.shape[1] * scale.hop_seconds, 7.0, 12.0))
    made, grid = new_figure(width, 0.5 + 1.6 * len(gazes), len(gazes), 2, sharex=True, sharey=True)
    limits = robust_limits(spec)
    relative = [gaze.weights * gaze.weights.size for gaze in gazes]
    top = max(float(np.percentile(np.stack(relative), 99.5)), 1.5)
    for axes, gaze, weights in zip(grid, gazes, relative, strict=True):
        heard = show(axes[0], spec, scale, limits)
        wide = np.repeat(np.repeat(weights, patch_size[0], axis=0), patch_size[1], axis=1)[
            : spec.shape[0], : spec.shape[1]
        ]
        looked = show(axes[1], wide, scale, (0.0, top), "viridis")
        axes[1].set_ylabel("")
        for side in axes:
            patch_box(side, scale, patch_size, gaze.row, gaze.column, edgecolor="black", linewidth=2.6)
            patch_box(side, scale, patch_size, gaze.row, gaze.column, edgecolor="white", linewidth=1.4)
    caption(grid[0, 0], "log-mel, reference patch boxed")
    caption(grid[0, 1], "attention of the last layer, mean over heads")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    colour_bar(made, heard, list(grid[:, 0]), "log-mel (nat)", 15 * len(gazes))
    colour_bar(made, looked, list(grid[:, 1]), "attention / even spread", 15 * len(gazes))
    made.suptitle(title, fontsize=10, x=0.02, ha="left")
    return made
