"""Options of figures; part of `unheard.api.options`, which has the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureOptions:
    """Options of a figure.

    Parameters
    ----------
    mask_ratio
        Fraction of masked patches of random masks. Default: that of the training of each model.
    seed
        Seed of the first mask.
    start
        Start of the windows in seconds.
    """

    mask_ratio: float | None = None
    seed: int = 0
    start: float = 0.0
