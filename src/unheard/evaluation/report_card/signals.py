"""Sounds of the checks, from seeds; nothing is read from disk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

TONES = (220.0, 554.4, 1318.5, 2637.0)
"""Hz; all lie in the band of a file of 8 kHz (our choice)."""


def mixture(rate: int, seconds: float, seed: int = 0) -> Float32[np.ndarray, " S"]:
    """Return tones whose levels change over time, on white noise 30 dB below full scale.

    Parameters
    ----------
    rate : int
        Hz.
    seconds : float
        Duration; at least one sample is returned.
    seed : int
        Changes the levels, the pitch and the noise.
    """
    random = np.random.default_rng(seed)
    times = np.arange(max(1, round(seconds * rate))) / rate
    wav = random.normal(0, 0.03, len(times))
    for tone in TONES:
        speed, phase, shift = random.uniform(0.5, 4), random.uniform(0, 2 * np.pi), random.uniform(0.8, 1.25)
        level = 0.08 * (1 + np.sin(2 * np.pi * speed * times + phase))
        wav += level * np.sin(2 * np.pi * tone * shift * times)
    return wav.astype(np.float32)


def clicks(
    rate: int, seconds: float, places: tuple[float, ...]
) -> tuple[Float32[np.ndarray, " S"], list[Float32[np.ndarray, " S"]]]:
    """Return quiet noise, and the same noise with one click of 4 ms for each place, in seconds."""
    random = np.random.default_rng(0)
    quiet = random.normal(0, 0.001, round(seconds * rate)).astype(np.float32)
    length = max(1, round(0.004 * rate))
    burst = random.choice([-0.8, 0.8], length).astype(np.float32)
    clicked = []
    for place in places:
        wav, start = quiet.copy(), round(place * rate) - length // 2
        wav[start : start + length] += burst
        clicked.append(wav)
    return quiet, clicked
