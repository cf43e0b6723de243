"""A classifier of pure tones for tests of detection: its scores are the power of its tones in a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 8000
TONES = {"low": 400.0, "high": 1600.0}


class ToneClassifier:
    """Scores of the classes background, low and high: fractions of the samples of a window that are that tone."""

    labels = ("background", "high", "low")
    sample_rate, window, multilabel = RATE, 1.0, False

    def __init__(self, thresholds: tuple[float | None, ...] = (0.5, 0.25, None)) -> None:
        self.thresholds, self.identity = thresholds, dict[str, Any](model="tones")

    def scores(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the scores of windows."""
        return np.stack([self._score(wav) for wav in windows])

    def _score(self, wav: np.ndarray) -> np.ndarray:
        turns = np.arange(len(wav)) / RATE
        power = [4 * abs(np.mean(wav * np.exp(-2j * np.pi * TONES[name] * turns))) for name in ("high", "low")]
        return np.array([max(0.0, 1 - sum(power)), *power])


def write_tones(file: Path, seconds: float, parts: Sequence[tuple[float, float, str]]) -> Path:
    """Write a recording with tones of amplitude 0.5 in the given parts, and silence elsewhere."""
    time = np.arange(round(seconds * RATE)) / RATE
    wav = np.zeros(len(time))
    for start, end, name in parts:
        wav += 0.5 * np.sin(2 * np.pi * TONES[name] * time) * ((time >= start) & (time < end))
    soundfile.write(file, wav, RATE, subtype="FLOAT")
    return file
