"""What happens to sound on its way to a microphone: background noise, loudness, filters, speed. For fine-tuning clips.

Like the functions of `unheard.finetuning.augment`: a batch of waves and a generator in, a new batch out, labels as they
were. Each clip has each disturbance or not, by a draw of its own. Filters are those of the RBJ audio cookbook, two
poles, Q = 1/sqrt(2), 12 dB an octave:

    y = h * x,   H(z) = (b0 + b1/z + b0/z^2) / (1 + a1/z + a2/z^2),   low: b0 ~ (1 - cos w)/2,  high: b0 ~ (1 + cos w)/2,  b1 ~ +-2 b0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.recipe import WaveformAugmentConfig

# samples behind the clips, in which a response fades before it would come round again; transforms have a multiple of
# it; ours
TAIL = 2048
HIGHEST = (
    0.45  # of the sample rate: cutoffs above it are drawn down to it, or a high-pass would leave nothing; our choice
)


def augment_waveform(
    clips: AugmentBatch, how: WaveformAugmentConfig, sample_rate: int, generator: torch.Generator
) -> AugmentBatch:
    """Background noise, loudness, high-pass, low-pass and speed, in this order, each on about ``how.chance`` of the
    clips.

    Parameters
    ----------
    clips : Clips
        Waves (B, S); a clip that gets slower is cut at S, one that gets faster ends earlier.
    sample_rate : int
        Hz.
    """
    kept = torch.rand(5, len(clips.values), generator=generator) < how.probability
    ranges = (how.noise_db, how.volume_db, how.high_pass, how.low_pass, how.speed)
    uniform = torch.rand(5, len(clips.values), generator=generator)
    drawn = [low + (high - low) * share for (low, high), share in zip(ranges, uniform, strict=True)]
    changes: tuple[Callable[[AugmentBatch, Tensor], AugmentBatch], ...] = (
        lambda some, decibels: add_white_noise(some, decibels, generator),
        apply_gain,
        lambda some, cutoff: biquad_filter(some, "high", cutoff, sample_rate),
        lambda some, cutoff: biquad_filter(some, "low", cutoff, sample_rate),
        change_speed,
    )
    for mine, values, change in zip(kept, drawn, changes, strict=True):
        rows = mine.nonzero().flatten().to(clips.lengths.device)
        if len(rows):
            some = change(
                AugmentBatch(clips.values[rows], clips.lengths[rows], clips.target[rows], clips.known[rows]),
                values[mine],
            )
            lengths = clips.lengths.index_copy(0, rows, some.lengths)
            clips = replace(clips, values=clips.values.index_copy(0, rows, some.values), lengths=lengths)
    return clips


def add_white_noise(clips: AugmentBatch, decibels: Float[Tensor, " B"], generator: torch.Generator) -> AugmentBatch:
    """Add white noise so many decibels below the mean power of each clip; a silent clip stays silent."""
    power = clips.values.square().sum(dim=1) / clips.lengths.clamp(min=1)
    level = (power * 10 ** (-decibels.to(power) / 10)).sqrt()
    noise = torch.randn(clips.values.shape, generator=generator).to(clips.values)
    return replace(clips, values=clips.values + noise * level[:, None] * clips.valid_mask)


def apply_gain(clips: AugmentBatch, decibels: Float[Tensor, " B"]) -> AugmentBatch:
    """Each clip by so many decibels."""
    return replace(clips, values=clips.values * (10 ** (decibels.to(clips.values) / 20))[:, None])


def biquad_filter(clips: AugmentBatch, kind: str, cutoff: Float[Tensor, " B"], sample_rate: int) -> AugmentBatch:
    """Each clip through a filter of its own: ``kind`` "low" or "high", -3 dB at ``cutoff`` Hz."""
    size = -(-(clips.values.shape[1] + TAIL) // TAIL) * TAIL
    response = _response(kind, (cutoff / sample_rate).clamp(max=HIGHEST).to(clips.values), size)
    filtered = torch.fft.irfft(torch.fft.rfft(clips.values, n=size) * response, n=size)
    return replace(clips, values=filtered[:, : clips.values.shape[1]] * clips.valid_mask)


def change_speed(clips: AugmentBatch, factor: Float[Tensor, " B"]) -> AugmentBatch:
    """Each clip played ``factor`` times as fast, with its pitch; what no longer fits the row is cut."""
    values, lengths = torch.zeros_like(clips.values), clips.lengths.clone()
    for row, (speed, length) in enumerate(zip(factor.tolist(), clips.lengths.tolist(), strict=True)):
        wave = clips.values[row, :length]
        if speed != 1 and length:
            wave = torch.from_numpy(np.ascontiguousarray(soxr.resample(wave.cpu().numpy(), speed, 1.0))).to(values)[
                : values.shape[1]
            ]
            lengths[row] = max(len(wave), 1)
        values[row, : len(wave)] = wave
    return replace(clips, values=values, lengths=lengths)


def _response(kind: str, cutoff: Float[Tensor, " B"], size: int) -> Tensor:
    """Complex gain (B, size/2 + 1) of filters with cutoffs in cycles a sample."""
    turn = 2 * math.pi * cutoff[:, None]
    alpha, sign = turn.sin() / math.sqrt(2), 1 if kind == "low" else -1
    edge = (1 - sign * turn.cos()) / 2
    delay = torch.exp(-2j * math.pi * torch.arange(size // 2 + 1, device=cutoff.device) / size)[None]
    return edge * (1 + sign * delay) ** 2 / (1 + alpha - 2 * turn.cos() * delay + (1 - alpha) * delay**2)
