"""Ranges of the numbers of a front end, for all kinds. Each message names the field, its value and the accepted
range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unheard.errors import ConfigError

RATES = (100, 1_000_000)
"""Hz. Sample rates outside this range are refused (our choice)."""

MAX_MELS, MAX_FFT = 4096, 2**16
"""Largest front end that is built (our choice)."""

INTEGERS = {
    "sample_rate": RATES,
    "frame_size": (2, MAX_FFT),
    "n_fft": (2, MAX_FFT),
    "hop_size": (1, RATES[1]),
    "n_mels": (1, MAX_MELS),
}
"""Smallest and largest value of each whole number."""


def check_frontend(config: Any) -> None:
    """Compare the numbers of a front end's configuration with their ranges.

    Raises
    ------
    ConfigError
        Naming the first field that is out of its range.
    """
    for name, (least, most) in INTEGERS.items():
        value = getattr(config, name, least)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"frontend.{name} is {value!r}; it must be a whole number from {least} to {most}")
    if config.n_fft % 2:
        raise ConfigError(f"frontend.n_fft is {config.n_fft}; it must be even")
    if getattr(config, "frame_size", config.n_fft) > config.n_fft:
        raise ConfigError(f"frontend.frame_size is {config.frame_size}; it must be at most n_fft, {config.n_fft}")
    for name in ("log_offset", "log_floor"):
        value = getattr(config, name, 1.0)
        if not 0 < value < math.inf:
            raise ConfigError(f"frontend.{name} is {value:g}; it must be above 0, because its logarithm is taken")
    if not 0 <= config.f_min < config.f_max <= config.sample_rate / 2:
        raise ConfigError(
            f"frontend.f_min={config.f_min:g} and f_max={config.f_max:g} Hz must rise and stay within 0 and half the"
            f" sample rate, {config.sample_rate / 2:g} Hz"
        )
