"""What fine-tuning does to its clips: every function takes a batch and a generator and gives a new batch.

A clip's own sound or frames are the first ``lengths[b]`` of its row; what follows is padding, 0, and stays so. Where
two clips are mixed, so are their targets; the mix is as long as the longer one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class AugmentBatch:
    """Clips of a batch, as sound (B, S) or as normalised spectrograms (B, F, T).

    Parameters
    ----------
    values : Float[Tensor, "B *rest T"]
        Samples or frames along the last axis; 0 behind each clip's end.
    lengths : Int[Tensor, "B"]
        Samples or frames of each clip.
    target : Float[Tensor, "B C"]
        Share of each class.
    known : Float[Tensor, "B C"]
        1 where somebody said whether the class is there, 0 where nobody knows.
    """

    values: Float[Tensor, "B *rest T"]
    lengths: Int[Tensor, " B"]
    target: Float[Tensor, "B C"]
    known: Float[Tensor, "B C"]

    @property
    def valid_mask(self) -> Bool[Tensor, "B T"]:
        """True on the clips' own samples or frames."""
        return torch.arange(self.values.shape[-1], device=self.values.device) < self.lengths[:, None]


def gain(clips: AugmentBatch, decibels: tuple[int, int], generator: torch.Generator) -> AugmentBatch:
    """Scale each clip by a whole number of decibels, uniform between the two, both included (MaskSpec: -7 to 6)."""
    steps = torch.randint(min(decibels), max(decibels) + 1, (len(clips.values),), generator=generator)
    factor = (10.0 ** (steps.float() / 20)).to(clips.values)
    return replace(clips, values=clips.values * _column(factor, clips.values))


def roll(clips: AugmentBatch, reach: int, generator: torch.Generator) -> AugmentBatch:
    """Turn each clip round within its own length by up to ``reach`` samples or frames, either way."""
    shift = torch.randint(-reach, reach + 1, (len(clips.values), 1), generator=generator).to(clips.lengths)
    place = torch.arange(clips.values.shape[-1], device=clips.lengths.device)[None]
    index = torch.where(clips.valid_mask, (place - shift) % clips.lengths[:, None].clamp(min=1), place)
    between = index.reshape(len(index), *[1] * (clips.values.ndim - 2), -1).expand_as(clips.values)
    return replace(clips, values=torch.gather(clips.values, -1, between))


def mixup(
    clips: AugmentBatch, chance: float, alpha: float, generator: torch.Generator, centred: bool = False
) -> AugmentBatch:
    """Mix clips with others of the batch, and their targets alike (mixup; Zhang et al. 2018).

        x = l x_a + (1 - l) x_b,  y = l y_a + (1 - l) y_b,  l = max(u, 1 - u),  u ~ Beta(alpha, alpha)

    Parameters
    ----------
    chance : float
        That a clip is mixed at all.
    alpha : float
        Small: mostly one clip; large: about half of each.
    centred : bool
        Take the mean off both clips first and off the mix last, as the references do with sound. A class counts as
        known in a mix when it is in both.
    """
    partner = torch.randperm(len(clips.values), generator=generator)
    share = _beta(alpha, len(clips.values), generator)
    mixed = torch.rand(len(clips.values), generator=generator) < chance
    kept = torch.where(mixed, torch.maximum(share, 1 - share), torch.ones(())).to(clips.values)
    partner, mixed = partner.to(clips.lengths.device), mixed.to(clips.lengths.device)
    values = _centred(clips) if centred else clips.values
    weight = _column(kept, values)
    blend = replace(
        clips,
        values=weight * values + (1 - weight) * values[partner],
        lengths=torch.maximum(clips.lengths, clips.lengths[partner]),
        target=kept[:, None] * clips.target + (1 - kept[:, None]) * clips.target[partner],
        known=clips.known * clips.known[partner],
    )
    values = _centred(blend) if centred else blend.values
    chosen = [torch.where(_column(mixed, a), a, b) for a, b in (
        (values, clips.values), (blend.lengths, clips.lengths), (blend.target, clips.target), (blend.known, clips.known),
    )]  # fmt: skip
    return AugmentBatch(*chosen)


def spec_augment(clips: AugmentBatch, freq: float, time: float, generator: torch.Generator) -> AugmentBatch:
    """Set one stretch of bands and one of frames to 0, the mean (SpecAugment; Park et al. 2019).

    Widths are uniform from 0 to the given shares of the bands and of the clip's own frames; so are the places where
    they fit.
    """
    draws = torch.rand(4, len(clips.values), 1, generator=generator).to(clips.values)
    bands, frames = clips.values.shape[-2:]
    rows = _stretch(draws[0], draws[1], freq, torch.full_like(draws[0], bands), bands)
    columns = _stretch(draws[2], draws[3], time, clips.lengths[:, None].to(draws), frames)
    return replace(clips, values=clips.values.masked_fill(rows[:, :, None] | columns[:, None, :], 0.0))


def add_noise(clips: AugmentBatch, max_level: float, generator: torch.Generator) -> AugmentBatch:
    """Add uniform noise in [0, r) to each clip, r uniform up to ``most`` (AudioMAE on Speech Commands: 0.1)."""
    level = torch.rand(len(clips.values), generator=generator) * max_level
    noise = torch.rand(clips.values.shape, generator=generator) * _column(level, clips.values)
    return replace(clips, values=clips.values + noise.to(clips.values) * clips.valid_mask[:, None])


def _stretch(width: Tensor, place: Tensor, share: float, length: Tensor, size: int) -> Bool[Tensor, "B size"]:
    """True from a random place on, for a random part of ``share`` of the length; both draws are (B, 1) in [0, 1)."""
    wide = (width * ((share * length).floor() + 1)).floor()
    first = (place * (length - wide + 1)).floor()
    index = torch.arange(size, device=width.device)[None]
    return (index >= first) & (index < first + wide)


def _beta(alpha: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Draws from Beta(alpha, alpha): the share of one of two gammas, drawn in float64."""
    shape = torch.full((2, count), alpha, dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=generator).clamp(min=1e-300)
    share: Tensor = first / (first + second)
    return share.float()


def _centred(clips: AugmentBatch) -> Float[Tensor, "B *rest T"]:
    """The values with a mean of 0 over each clip's own length; padding stays 0."""
    valid_mask = _column(clips.valid_mask, clips.values) if clips.values.ndim == 2 else clips.valid_mask[:, None]
    total = (clips.values * valid_mask).sum(dim=-1, keepdim=True)
    mean = total / clips.lengths.clamp(min=1).reshape(-1, *[1] * (clips.values.ndim - 1))
    return (clips.values - mean) * valid_mask


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Values of the batch, shaped to be spread over the other axes of ``like``."""
    return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))
