"""The default resampler of torchaudio, which X-ARES uses: a sinc filter of width 6 in a Hann window.

Other filters change the scores (X-ARES specification, section 3.2).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

WIDTH, ROLLOFF = 6, 0.99


def mono_at(channels: Float32[np.ndarray, "C S"], rate: int, wanted: int) -> Float32[np.ndarray, " R"]:
    """Resample each channel, then return their mean; R = ceil(S wanted / rate)."""
    wav = torch.from_numpy(np.ascontiguousarray(channels))
    if rate != wanted:
        wav = _resampled(wav, rate, wanted)
    mono: Float32[np.ndarray, " R"] = wav.mean(dim=0).numpy()
    return mono


def _resampled(wav: Float[Tensor, "C S"], rate: int, wanted: int) -> Float[Tensor, "C R"]:
    shared = math.gcd(rate, wanted)
    old, new = rate // shared, wanted // shared
    kernel, width = _kernel(old, new)
    padded = F.pad(wav, (width, width + old))
    phases = F.conv1d(padded[:, None], kernel, stride=old)  # (C, new, S / old + 1)
    return phases.transpose(1, 2).flatten(1)[:, : -(-wav.shape[1] * new // old)]


@lru_cache(maxsize=8)
def _kernel(old: int, new: int) -> tuple[Float[Tensor, "new 1 K"], int]:
    """Return a filter for each phase, and its left reach in samples."""
    frequency = ROLLOFF * min(old, new)
    width = math.ceil(WIDTH * old / frequency)
    taps = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64)[:, None] / new
    at = ((taps - phases) * frequency).clamp(-WIDTH, WIDTH)
    window = torch.cos(at * math.pi / WIDTH / 2).square()
    return (torch.sinc(at) * window * frequency / old)[:, None].float(), width
