"""Attention maps of the last block, averaged over heads."""

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
    """Attention map of one reference patch.

    Parameters
    ----------
    row, column : int
        Frequency index from the lowest band and time index of the reference patch.
    weights : ndarray (f, t)
        Attention weights over all patches.
    """

    row: int
    column: int
    weights: Float32[np.ndarray, "f t"]


def figure(
    spec: Float32[np.ndarray, "F T"],
    maps: Sequence[AttentionMap],
    patch_size: tuple[int, int],
    scale: SpectrogramAxes,
    title: str,
) -> Figure:
    """Plot one row for each reference patch: the spectrogram with the patch outlined, and its attention map.

    Attention is shown relative to uniform attention, with one colour scale for all rows.
    """
    width = float(np.clip(3.0 + 3.0 * spec.shape[1] * scale.hop_seconds, 7.0, 12.0))
    fig, grid = new_figure(width, 0.5 + 1.6 * len(maps), len(maps), 2, sharex=True, sharey=True)
    limits = robust_limits(spec)
    relative = [map_.weights * map_.weights.size for map_ in maps]
    top = max(float(np.percentile(np.stack(relative), 99.5)), 1.5)
    for axes, map_, weights in zip(grid, maps, relative, strict=True):
        input_image = show(axes[0], spec, scale, limits)
        wide = np.repeat(np.repeat(weights, patch_size[0], axis=0), patch_size[1], axis=1)[
            : spec.shape[0], : spec.shape[1]
        ]
        attention_image = show(axes[1], wide, scale, (0.0, top), "viridis")
        axes[1].set_ylabel("")
        for side in axes:
            patch_box(side, scale, patch_size, map_.row, map_.column, edgecolor="black", linewidth=2.6)
            patch_box(side, scale, patch_size, map_.row, map_.column, edgecolor="white", linewidth=1.4)
    caption(grid[0, 0], "log-mel, reference patch outlined")
    caption(grid[0, 1], "attention of the last layer, mean over heads")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    colour_bar(fig, input_image, list(grid[:, 0]), "log-mel (nat)", 15 * len(maps))
    colour_bar(fig, attention_image, list(grid[:, 1]), "attention / uniform", 15 * len(maps))
    fig.suptitle(title, fontsize=10, x=0.02, ha="left")
    return fig
