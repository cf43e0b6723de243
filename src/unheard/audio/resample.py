"""Change the sample rate of batches of tensors, on the device they are on. Files are resampled by soxr, in `waveform`.

    out[n] = sum_s wav[s] h(s - n from / to),   h(x) = c sinc(c x) w(x),   c = rolloff min(1, to / from)

h is a low-pass sinc in a Kaiser window; the values are those of the published filter "kaiser_best" (resampy).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

NUM_ZEROS, ROLLOFF, BETA = 64, 0.9475937167399596, 14.769656459379492


def resample(wav: Float[Tensor, "B S"], from_rate: int, to_rate: int) -> Float[Tensor, "B S2"]:
    """Resample a batch; S2 = ceil(S to_rate / from_rate). Differentiable, float32."""
    if from_rate == to_rate:
        return wav
    shared = math.gcd(from_rate, to_rate)
    old, new = from_rate // shared, to_rate // shared
    kernel, width = _kernel(old, new)
    padded = F.pad(wav.float(), (width, width + old))
    phases = F.conv1d(
        padded[:, None], kernel.to(wav.device), stride=old
    )  # (B, new, S / old + 1): every new-th output sample
    return phases.transpose(1, 2).flatten(1)[:, : -(-wav.shape[1] * new // old)]


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for later calls, which may need a gradient
def _kernel(old: int, new: int) -> tuple[Float[Tensor, "new 1 K"], int]:
    """Return one filter for each of the ``new`` positions of an output sample between input samples, and their left
    reach.
    """
    cutoff = ROLLOFF * min(1.0, new / old)
    width = math.ceil(NUM_ZEROS / cutoff)
    taps = torch.arange(-width, width + old, dtype=torch.float64)
    at = taps[None, :] - torch.arange(new, dtype=torch.float64)[:, None] * old / new
    inside = (1 - (at / width).square()).clamp(min=0)
    window = (
        torch.special.i0(BETA * inside.sqrt())
        / torch.special.i0(torch.tensor(BETA, dtype=torch.float64))
        * (at.abs() < width)
    )
    return (cutoff * torch.sinc(cutoff * at) * window)[:, None].float(), width
