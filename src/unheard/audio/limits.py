"""Ranges of samples, and of the numbers of a front end for all kinds. Each message names what is wrong, its value and
the accepted range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float32

from unheard.errors import AudioError, ConfigError

RATES = (100, 1_000_000)
"""Hz. Sample rates outside this range are refused (our choice)."""

LOUDEST = 32.0
"""Largest accepted sample: 30 dB over full scale (our choice)."""

INTEGER_SCALE = {"int16": 2.0**15, "int32": 2.0**31}
"""Full scale of samples that are integers."""

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


def full_scale(samples: np.ndarray, where: str) -> float:
    """Return the value of samples at full scale: 1 for floats.

    Raises
    ------
    AudioError
        For a type other than floats, int16 and int32.
    """
    name = samples.dtype.name
    if name not in INTEGER_SCALE and samples.dtype.kind != "f":
        raise AudioError(f"{where} holds {name} values; give floats in [-1, 1], int16 or int32")
    return INTEGER_SCALE.get(name, 1.0)


def checked_samples(
    wav: Float32[np.ndarray, " S"], name: str, sample_rate: int, offset: int = 0
) -> Float32[np.ndarray, " S"]:
    """Return ``wav`` if no sample is NaN, infinite or louder than `LOUDEST`.

    Parameters
    ----------
    wav : Float32[ndarray, "S"]
    name : str
        Of the sound, for the message.
    sample_rate, offset : int
        Hz, and number of the first sample, for the time in the message.

    Raises
    ------
    AudioError
        With the time of the first such sample.
    """
    low, high = float(wav.min(initial=0.0)), float(wav.max(initial=0.0))
    if -LOUDEST <= low and high <= LOUDEST:
        return wav
    bad = np.flatnonzero(~(np.abs(wav) <= LOUDEST))
    where, peak = f"the first at {(offset + int(bad[0])) / sample_rate:.3f} s", float(np.max(np.abs(wav)))
    if not np.isfinite(peak):
        raise AudioError(f"{name}: {len(bad)} samples are not finite numbers, {where}; export it again from its source")
    if peak <= INTEGER_SCALE["int16"] * 1.01:
        advice = "these look like 16-bit integers stored as floats; divide them by 32768"
    else:
        advice = "it is damaged or badly scaled; export it again from its source"
    raise AudioError(
        f"{name}: {len(bad)} samples are louder than {LOUDEST:g} times full scale (peak {peak:.3g}), {where}; {advice}"
    )
