"""Options of reconstructions and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of the mask.

    Parameters
    ----------
    mask
        random: single patches. vertical, horizontal, chessboard: every other time column, frequency row or patch.
        structured: random rows and columns.
    mask_ratio
        Fraction of masked patches. Default: that of the training.
    start
        Start of the window in seconds.
    seed
        Seed of the mask.
    painted
        A mask of your own instead of --mask: one row of x (masked) and . (visible) for each frequency, the lowest
        first, separated by /. The page of unheard serve gives it.
    wav
        Also write the reconstruction as a sound file.
    sounds
        Also write original.wav, masked.wav and reconstructed.wav of the whole recording, its windows joined, into this
        folder: from --start on, 120 seconds at most. One vocoder makes all three.
    """

    mask: Literal["random", "vertical", "horizontal", "chessboard", "structured"] = "random"
    mask_ratio: float | None = None
    start: float = 0.0
    seed: int = 0
    painted: str | None = None
    wav: Path | None = None
    sounds: Path | None = None


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
