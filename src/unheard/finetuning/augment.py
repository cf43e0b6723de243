"""Augmentation of fine-tuning clips: every function takes a batch and a generator and returns a new batch.

The first ``lengths[b]`` samples or frames of a row belong to the clip; the rest is zero padding and stays zero. When
two clips are mixed, their targets are mixed too. The mix has the length of the longer clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unheard.devices import to_device


@dataclass
class AugmentBatch:
    """Clips of a batch, as waveforms (B, S) or as normalised spectrograms (B, F, T), on any device.

    Parameters
    ----------
    values : Float[Tensor, "B *rest T"]
        Samples or frames along the last axis; 0 after the end of each clip.
    lengths : Int[Tensor, "B"]
        Samples or frames of each clip, on the CPU: what is computed depends on them, and reading them from a device
        would wait for it.
    target : Float[Tensor, "B C"]
        Fraction of each class.
    known : Float[Tensor, "B C"]
        1 where the class is annotated, else 0.
    """

    values: Float[Tensor, "B *rest T"]
    lengths: Int[Tensor, " B"]
    target: Float[Tensor, "B C"]
    known: Float[Tensor, "B C"]

    @property
    def valid_mask(self) -> Bool[Tensor, "B T"]:
        """True on the samples or frames that belong to the clips."""
        return torch.arange(self.values.shape[-1], device=self.device) < self.placed(self.lengths)[:, None]

    @property
    def device(self) -> torch.device:
        """Device of all but the lengths."""
        return self.values.device

    def placed(self, numbers: Tensor) -> Tensor:
        """Copy numbers of the CPU, such as random ones, to the device, which does not wait."""
        return to_device(numbers, self.device)

    def pieces(self, parts: int) -> Iterator[AugmentBatch]:
        """Yield consecutive parts of the batch."""
        chunks = [values.chunk(parts) for values in (self.values, self.lengths, self.target, self.known)]
        yield from (AugmentBatch(*piece) for piece in zip(*chunks, strict=True))


def gain(clips: AugmentBatch, decibels: tuple[int, int], generator: torch.Generator) -> AugmentBatch:
    """Scale each clip by an integer number of decibels, uniform in the closed range (MaskSpec: -7 to 6)."""
    steps = torch.randint(min(decibels), max(decibels) + 1, (len(clips.values),), generator=generator)
    factor = clips.placed(10.0 ** (steps.float() / 20))
    return replace(clips, values=clips.values * _column(factor, clips.values))


def roll(clips: AugmentBatch, max_shift: int, generator: torch.Generator) -> AugmentBatch:
    """Shift each clip circularly within its length by up to ``max_shift`` samples or frames in either direction."""
    shift = torch.randint(-max_shift, max_shift + 1, (len(clips.values), 1), generator=generator)
    position = torch.arange(clips.values.shape[-1], device=clips.device)[None]
    turned = (position - clips.placed(shift)) % clips.placed(clips.lengths)[:, None].clamp(min=1)
    index = torch.where(clips.valid_mask, turned, position)
    between = index.reshape(len(index), *[1] * (clips.values.ndim - 2), -1).expand_as(clips.values)
    return replace(clips, values=torch.gather(clips.values, -1, between))


def mixup(
    clips: AugmentBatch,
    probability: float,
    alpha: float,
    generator: torch.Generator,
    centred: bool = False,
    share_of: Literal["larger", "clip", "batch"] = "larger",
    partner_of: Literal["random", "reversed"] = "random",
) -> AugmentBatch:
    """Mix clips and their targets with others of the batch (mixup; Zhang et al. 2018).

        x = l x_a + (1 - l) x_b,  y = l y_a + (1 - l) y_b,  l = max(u, 1 - u),  u ~ Beta(alpha, alpha)

    A class is annotated in a mix when it is annotated in both clips.

    Parameters
    ----------
    probability : float
        Probability that a clip is mixed.
    alpha : float
        Small values mix in little of the other clip; large values give about half of each.
    centred : bool
        Subtract the mean of both clips before mixing and of the mix after it, as the references do for waveforms.
    share_of : {"larger", "clip", "batch"}
        l = max(u, 1 - u) as above; l = u; or one l = u for all clips, which are all mixed or none.
    partner_of : {"random", "reversed"}
        Order of the clips x_b.
    """
    count = len(clips.values)
    partner = torch.randperm(count, generator=generator)
    partner = partner if partner_of == "random" else torch.arange(count).flip(0)
    share = _beta(alpha, count, generator)
    chance = torch.rand(count, generator=generator)
    if share_of == "batch":
        share, chance = share[:1].expand(count), chance[:1].expand(count)
    mixed = chance < probability
    own = torch.maximum(share, 1 - share) if share_of == "larger" else share
    lengths = torch.where(mixed, torch.maximum(clips.lengths, clips.lengths[partner]), clips.lengths)
    own_weight = clips.placed(torch.where(mixed, own, torch.ones(())))
    partner, mixed = clips.placed(partner), clips.placed(mixed)
    values = _centred(clips) if centred else clips.values
    weight = _column(own_weight, values)
    blend = replace(
        clips,
        values=weight * values + (1 - weight) * values[partner],
        lengths=lengths,
        target=own_weight[:, None] * clips.target + (1 - own_weight[:, None]) * clips.target[partner],
        known=clips.known * clips.known[partner],
    )
    values = _centred(blend) if centred else blend.values
    pairs = ((values, clips.values), (blend.target, clips.target), (blend.known, clips.known))
    values, target, known = (torch.where(_column(mixed, a), a, b) for a, b in pairs)
    return AugmentBatch(values, lengths, target, known)


def spec_augment(clips: AugmentBatch, freq: float, time: float, generator: torch.Generator) -> AugmentBatch:
    """Set one range of bands and one range of frames to 0, the mean (SpecAugment; Park et al. 2019).

    Widths are uniform from 0 to the given fractions of the bands and of the frames of the clip. Positions are uniform.
    """
    noise = clips.placed(torch.rand(4, len(clips.values), 1, generator=generator))
    bands, frames = clips.values.shape[-2:]
    rows = _stretch(noise[0], noise[1], freq, torch.full_like(noise[0], bands), bands)
    columns = _stretch(noise[2], noise[3], time, clips.placed(clips.lengths.float())[:, None], frames)
    return replace(clips, values=clips.values.masked_fill(rows[:, :, None] | columns[:, None, :], 0.0))


def add_noise(clips: AugmentBatch, max_level: float, generator: torch.Generator) -> AugmentBatch:
    """Add uniform noise in [0, r) to each clip, r uniform up to ``max_level`` (AudioMAE on Speech Commands: 0.1)."""
    level = torch.rand(len(clips.values), generator=generator) * max_level
    noise = torch.rand(clips.values.shape, generator=generator) * _column(level, clips.values)
    return replace(clips, values=clips.values + clips.placed(noise) * clips.valid_mask[:, None])


def _stretch(width: Tensor, position: Tensor, fraction: float, length: Tensor, size: int) -> Bool[Tensor, "B size"]:
    """Return True on a random range of at most ``fraction`` of the length.

    ``width`` and ``position`` are (B, 1), uniform in [0, 1).
    """
    wide = (width * ((fraction * length).floor() + 1)).floor()
    first = (position * (length - wide + 1)).floor()
    index = torch.arange(size, device=width.device)[None]
    return (index >= first) & (index < first + wide)


def _beta(alpha: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Sample from Beta(alpha, alpha), as g1 / (g1 + g2) of two gamma variates in float64."""
    shape = torch.full((2, count), alpha, dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=generator).clamp(min=1e-300)
    share: Tensor = first / (first + second)
    return share.float()


def _centred(clips: AugmentBatch) -> Float[Tensor, "B *rest T"]:
    """Return the values with mean 0 over the length of each clip; padding stays 0."""
    valid_mask = _column(clips.valid_mask, clips.values) if clips.values.ndim == 2 else clips.valid_mask[:, None]
    total = (clips.values * valid_mask).sum(dim=-1, keepdim=True)
    mean = total / _column(clips.placed(clips.lengths).clamp(min=1), clips.values)
    return (clips.values - mean) * valid_mask


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values of the batch so that they broadcast over the other axes of ``like``."""
    return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))
