"""Waveform augmentation of fine-tuning clips: background noise, gain, filters and speed.

The functions take a batch of waveforms and a generator and return a new batch, as in `unheard.finetuning.augment`.
Labels do not change. Each effect is applied to each clip independently with a given probability. Filters are those of
the RBJ audio cookbook, two poles, Q = 1/sqrt(2), 12 dB per octave:

    y = h * x,   H(z) = (b0 + b1/z + b0/z^2) / (1 + a1/z + a2/z^2)
    low: b0 ~ (1 - cos w)/2,  high: b0 ~ (1 + cos w)/2,  b1 ~ +-2 b0
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

# zero padding in samples, so that the filter response decays before it wraps around; our choice
TAIL = 2048
# maximum cutoff as a fraction of the sample rate, because a higher high-pass would remove everything; our choice
HIGHEST = 0.45


def augment_waveform(
    clips: AugmentBatch, config: WaveformAugmentConfig, sample_rate: int, generator: torch.Generator
) -> AugmentBatch:
    """Apply noise, gain, high-pass, low-pass and speed in this order, each with probability ``config.probability``.

    Parameters
    ----------
    clips : AugmentBatch
        Waveforms (B, S). A slower clip is cut at S samples; a faster one ends earlier.
    config : WaveformAugmentConfig
    sample_rate : int
        Sample rate in Hz.
    """
    applied = torch.rand(5, len(clips.values), generator=generator) < config.probability
    ranges = (config.noise_db, config.volume_db, config.high_pass, config.low_pass, config.speed)
    uniform = torch.rand(5, len(clips.values), generator=generator)
    amounts = [low + (high - low) * share for (low, high), share in zip(ranges, uniform, strict=True)]
    changes: tuple[Callable[[AugmentBatch, Tensor], AugmentBatch], ...] = (
        lambda subset, decibels: add_white_noise(subset, decibels, generator),
        apply_gain,
        lambda subset, cutoff: biquad_filter(subset, "high", cutoff, sample_rate),
        lambda subset, cutoff: biquad_filter(subset, "low", cutoff, sample_rate),
        change_speed,
    )
    for selected, values, change in zip(applied, amounts, changes, strict=True):
        rows = selected.nonzero().flatten()
        if len(rows):
            there = clips.placed(rows)
            subset = change(
                AugmentBatch(clips.values[there], clips.lengths[rows], clips.target[there], clips.known[there]),
                values[selected],
            )
            lengths = clips.lengths.index_copy(0, rows, subset.lengths)
            clips = replace(clips, values=clips.values.index_copy(0, there, subset.values), lengths=lengths)
    return clips


def add_white_noise(clips: AugmentBatch, decibels: Float[Tensor, " B"], generator: torch.Generator) -> AugmentBatch:
    """Add white noise ``decibels`` below the mean power of each clip; a silent clip stays silent."""
    power = clips.values.square().sum(dim=1) / clips.placed(clips.lengths).clamp(min=1)
    level = (power * 10 ** (-clips.placed(decibels) / 10)).sqrt()
    noise = clips.placed(torch.randn(clips.values.shape, generator=generator))
    return replace(clips, values=clips.values + noise * level[:, None] * clips.valid_mask)


def apply_gain(clips: AugmentBatch, decibels: Float[Tensor, " B"]) -> AugmentBatch:
    """Change the gain of each clip by ``decibels``."""
    return replace(clips, values=clips.values * (10 ** (clips.placed(decibels) / 20))[:, None])


def biquad_filter(clips: AugmentBatch, kind: str, cutoff: Float[Tensor, " B"], sample_rate: int) -> AugmentBatch:
    """Filter each clip with its own cutoff: ``kind`` "low" or "high", -3 dB at ``cutoff`` Hz."""
    size = -(-(clips.values.shape[1] + TAIL) // TAIL) * TAIL
    response = _response(kind, clips.placed((cutoff / sample_rate).clamp(max=HIGHEST)), size)
    filtered = torch.fft.irfft(torch.fft.rfft(clips.values, n=size) * response, n=size)
    return replace(clips, values=filtered[:, : clips.values.shape[1]] * clips.valid_mask)


def change_speed(clips: AugmentBatch, factor: Float[Tensor, " B"]) -> AugmentBatch:
    """Play each clip ``factor`` times as fast, which also changes the pitch; cut it to the length of the row.

    Clips are resampled on the CPU: alone of all effects, this one reads values from the device and waits for them.
    """
    waves, lengths = clips.values.cpu(), clips.lengths.clone()
    values = torch.zeros_like(waves)
    for row, (speed, length) in enumerate(zip(factor.tolist(), clips.lengths.tolist(), strict=True)):
        wave = waves[row, :length]
        if speed != 1 and length:
            played = soxr.resample(wave.numpy(), speed, 1.0)
            wave = torch.from_numpy(np.ascontiguousarray(played))[: values.shape[1]]
            lengths[row] = max(len(wave), 1)
        values[row, : len(wave)] = wave
    return replace(clips, values=clips.placed(values), lengths=lengths)


def _response(kind: str, cutoff: Float[Tensor, " B"], size: int) -> Tensor:
    """Return the complex frequency response (B, size/2 + 1) of filters; ``cutoff`` is in cycles per sample."""
    turn = 2 * math.pi * cutoff[:, None]
    alpha, sign = turn.sin() / math.sqrt(2), 1 if kind == "low" else -1
    edge = (1 - sign * turn.cos()) / 2
    delay = torch.exp(-2j * math.pi * torch.arange(size // 2 + 1, device=cutoff.device) / size)[None]
    return edge * (1 + sign * delay) ** 2 / (1 + alpha - 2 * turn.cos() * delay + (1 - alpha) * delay**2)
