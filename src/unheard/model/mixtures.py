"""Partial mixtures of two windows, and the targets that retain both sources (SSLAM).

    a: a window, b: the window before it in the batch, R: the columns of two regions, the same for the whole batch
    mixture = a in R, max(a, b) elsewhere
    r_n = ( y(a)_n + y(b without R)_n ) / 2 outside of R,   y(a)_n in R

y(b without R): targets of a teacher that encodes the patches of b outside of R only. Padding of a window takes no part:
where one of the two is padding, mixture and target are those of the other one (our choice).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unheard.model.patches import Grid

MIN_COLUMNS = 4
"""Columns of a window in which two regions fit."""
REGION = (15, 64)  # a region has 15 of the 64 columns of a published window (240 of 1024 frames)


@dataclass
class Sources:
    """The windows that are mixed into the windows of a batch.

    Parameters
    ----------
    patches : Float[Tensor, "B N P"]
        The window before each window.
    valid : Bool[Tensor, "B N"]
        False on its padding.
    outside : Int[Tensor, "B K"]
        Patches outside of the regions, in token order.
    """

    patches: Float[Tensor, "B N P"]
    valid: Bool[Tensor, "B N"]
    outside: Int[Tensor, "B K"]

    def mixed(self) -> Bool[Tensor, "B N"]:
        """Return True on patches of the mixture in which this source takes part."""
        flags = torch.zeros_like(self.valid).scatter(1, self.outside, torch.ones_like(self.outside, dtype=torch.bool))
        return flags & self.valid


def region_columns(numbers: Float[Tensor, "B 2"], columns: int) -> Bool[Tensor, "B t"]:
    """Return True on the columns of two regions that do not overlap.

    With 64 columns, the first region begins at a column from 0 to 31. The second one begins between the end of the
    first one and column 48 (reference code). Other windows have the same fractions (our choice).

    Parameters
    ----------
    numbers : Float[Tensor, "B 2"]
        Uniform numbers in [0, 1).
    columns : int
        Columns of the window, at least `MIN_COLUMNS`.
    """
    width = max(1, columns * REGION[0] // REGION[1])
    first = (numbers[:, 0] * (columns // 2)).long()
    after = first + width
    second = after + (numbers[:, 1] * (columns - width - after)).long()
    place = torch.arange(columns, device=numbers.device)
    starts = torch.stack([first, second], dim=1)[:, :, None]
    return ((place >= starts) & (place < starts + width)).any(dim=1)


def outside_tokens(regions: Bool[Tensor, "B t"], grid: Grid) -> Int[Tensor, "B K"]:
    """Return the tokens outside of the regions, which have the same size in every row, in token order."""
    inside = regions[:, grid.columns(regions.device)]
    width = max(1, grid.time * REGION[0] // REGION[1])
    order = torch.argsort(inside.to(torch.int8), dim=1, stable=True)
    return order[:, : (grid.time - 2 * width) * grid.freq]


def mixture(
    spec: Float[Tensor, "B F T"],
    other: Float[Tensor, "B F T"],
    frames: tuple[Int[Tensor, " B"], Int[Tensor, " B"]],
    inside: Bool[Tensor, "B T"],
) -> Float[Tensor, "B F T"]:
    """Return the mixture of windows: the larger value of the two, and the first window alone in the regions.

    Parameters
    ----------
    frames : tuple of Int[Tensor, "B"]
        Real frames of both windows; the rest is padding.
    inside : Bool[Tensor, "B T"]
        True on frames of the regions.
    """
    place = torch.arange(spec.shape[2], device=spec.device)
    own, others = (place < count[:, None] for count in frames)
    alone = (inside | ~others)[:, None]
    return torch.where(alone, spec, torch.where(own[:, None], torch.maximum(spec, other), other))


def retained(
    own: Float[Tensor, "B N D"],
    other: Float[Tensor, "B K D"],
    valid: Bool[Tensor, "B N"],
    sources: Sources,
) -> Float[Tensor, "B N D"]:
    """Return the target of each patch of a mixture: the mean target of the sources that take part in it.

    Parameters
    ----------
    own : Float[Tensor, "B N D"]
        Targets of the windows.
    other : Float[Tensor, "B K D"]
        Targets of ``sources`` outside of the regions.
    valid : Bool[Tensor, "B N"]
        False on padding of the windows.
    """
    placed = torch.zeros_like(own).scatter(1, sources.outside[:, :, None].expand_as(other), other.to(own.dtype))
    mixed = sources.mixed()[:, :, None]
    both = torch.where(valid[:, :, None], (own + placed) / 2, placed)
    return torch.where(mixed, both, own)
