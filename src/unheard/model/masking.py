"""Masks: which patches are visible and which are hidden.

A mask is two index tensors: ``keep`` (B, K) for the input tokens of the encoder, ``hide`` (B, M) for the tokens to
predict. Both are in random order, on which the latent objectives rely. Structured masks and masks of blocks have both
in token order.

A window may have several masks, its views. Their rows follow each other: view v of window b is row b V + v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unheard.errors import ConfigError
from unheard.model.patches import Grid
from unheard.model.sizes import MaskConfig, ModelConfig

PATTERNS = ("random", "vertical", "horizontal", "chessboard", "structured")


@dataclass
class Mask:
    """Token indices of the visible and the hidden patches of each crop, or of each view of each crop.

    ``seed`` is a whole number for each row, from which a decoder may compute noise; None: without noise.
    """

    keep: Int[Tensor, "B K"]
    hide: Int[Tensor, "B M"]
    seed: Int[Tensor, " B"] | None = None

    def chunk(self, parts: int) -> list[Mask]:
        """Split into consecutive parts of the batch."""
        seeds = [None] * parts if self.seed is None else self.seed.chunk(parts)
        return [Mask(*part) for part in zip(self.keep.chunk(parts), self.hide.chunk(parts), seeds, strict=True)]

    def hidden(self) -> Bool[Tensor, "B N"]:
        """Return True at hidden tokens, in token order."""
        flags = torch.zeros(
            self.keep.shape[0], self.keep.shape[1] + self.hide.shape[1], dtype=torch.bool, device=self.keep.device
        )
        return flags.scatter_(1, self.hide, torch.ones_like(self.hide, dtype=torch.bool))


def num_keep(num_patches: int, mask_ratio: float) -> int:
    """Return how many patches stay visible: the integer part of N (1 - mask_ratio), at least one.

    The truncation is the reference's (N = 190 at ratio 0.8 keeps 37, not 38); the floor of one is ours: at 95 patches
    and ratio 0.99 the reference keeps none.

    Raises
    ------
    ConfigError
        When the ratio is outside [0, 1).
    """
    return max(1, int(num_patches * (1 - _checked(mask_ratio))))


def _checked(mask_ratio: float) -> float:
    if not 0 <= mask_ratio < 1:
        raise ConfigError(f"mask_ratio is {mask_ratio}; give the fraction of patches to hide, 0 <= mask_ratio < 1")
    return mask_ratio


def random(noise: Float[Tensor, "B N"], mask_ratio: float, valid: Bool[Tensor, "B N"] | None = None) -> Mask:
    """Keep the patches with the smallest noise, separately for each crop; patches of pure padding come last.

    Parameters
    ----------
    noise : Float[Tensor, "B N"]
        Uniform numbers in [0, 1), one for each patch.
    mask_ratio : float
        Fraction of patches to hide; see `num_keep` for the rounding.
    valid : Bool[Tensor, "B N"], optional
        False on padding.
    """
    order = noise if valid is None else noise + (~valid).to(noise.dtype)
    shuffled = order.argsort(dim=1)
    kept = num_keep(noise.shape[1], mask_ratio)
    return Mask(shuffled[:, :kept], shuffled[:, kept:])


def structured(
    grid: Grid, noise_freq: Float[Tensor, "B f"], noise_time: Float[Tensor, "B t"], mask_ratios: tuple[float, float]
) -> Mask:
    """Hide whole frequency rows and whole time columns (AudioMAE): a patch is visible in a kept row and a kept column.

    Of f rows and t columns those with the smallest noise are kept, each count rounded as in `num_keep`.

    Parameters
    ----------
    noise_freq, noise_time : Float[Tensor, "B f"], Float[Tensor, "B t"]
        A number for each row and for each column.
    mask_ratios : tuple of float
        Fraction of the rows and fraction of the columns to hide.
    """
    hidden = []
    for noise, share, place in (
        (noise_freq, mask_ratios[0], grid.rows(noise_freq.device)),
        (noise_time, mask_ratios[1], grid.columns(noise_time.device)),
    ):
        kept = noise.argsort(dim=1)[:, : num_keep(noise.shape[1], share)]
        flags = torch.ones_like(noise, dtype=torch.bool).scatter_(1, kept, False)
        hidden.append(flags[:, place])  # (B, N)
    return _in_order(hidden[0] | hidden[1], num_hidden(grid, mask_ratios))


def num_blocks(num_patches: int, mask_ratio: float, blocks: MaskConfig) -> int:
    """Return how many squares `inverse_block` places: int(N (1 - mask_ratio + adjust) / block^2)."""
    return int(num_patches * (1 - _checked(mask_ratio) + blocks.adjust) / blocks.block**2)


def visible_blocks(grid: Grid, centres: Int[Tensor, "B S"], side: int) -> Bool[Tensor, "B N"]:
    """Return True on tokens within a square of ``side`` patches around one of the centres, cut at the borders.

    A square of even side has one row and one column more before its centre than after it.
    """
    rows, columns = grid.rows(centres.device), grid.columns(centres.device)
    found = torch.zeros(centres.shape[0], grid.num_patches, dtype=torch.bool, device=centres.device)
    for centre in centres.unbind(dim=1):
        inside = [
            (axis[None] >= axis[centre][:, None] - side // 2) & (axis[None] < axis[centre][:, None] + side - side // 2)
            for axis in (rows, columns)
        ]
        found |= inside[0] & inside[1]
    return found


def inverse_block(
    grid: Grid,
    noise: Float[Tensor, "B W"],
    mask_ratio: float,
    blocks: MaskConfig,
    valid: Bool[Tensor, "B N"] | None = None,
) -> Mask:
    """Keep small squares of the grid, and hide the rest (EAT).

    The centres of `num_blocks` squares are uniform over the grid, with repetition. If their union has too many patches,
    random ones of it are hidden; if it has too few, random other patches are kept. In EAT this takes two steps. One
    score for each patch has the same distribution: 1 inside of the union plus a uniform number, the largest are kept.

    Parameters
    ----------
    noise : Float[Tensor, "B W"]
        Uniform numbers in [0, 1): N for the patches, then one for each square.
    valid : Bool[Tensor, "B N"], optional
        False on padding, which is kept last.
    """
    count = grid.num_patches
    centres = (noise[:, count:] * count).long().clamp(max=count - 1)
    score = visible_blocks(grid, centres, blocks.block) + noise[:, :count]
    if valid is not None:
        score = score - 2 * (~valid).to(score.dtype)
    kept = num_keep(count, mask_ratio)
    hidden = torch.ones_like(score, dtype=torch.bool)
    hidden.scatter_(1, score.argsort(dim=1, descending=True)[:, :kept], False)
    return _in_order(hidden, count - kept)


def num_hidden(grid: Grid, mask_ratios: tuple[float, float]) -> int:
    """Return how many patches `structured` hides."""
    return grid.num_patches - num_keep(grid.freq, mask_ratios[0]) * num_keep(grid.time, mask_ratios[1])


def noise_size(config: ModelConfig, blocks: MaskConfig, grid: Grid) -> int:
    """Return how many uniform numbers `training_mask` takes for one window."""
    squares = num_blocks(grid.num_patches, config.mask_ratio, blocks) if blocks.kind == "inverse_block" else 0
    return blocks.views * (grid.num_patches + squares)


def training_mask(
    config: ModelConfig,
    grid: Grid,
    noise: Float[Tensor, "B W"],
    valid: Bool[Tensor, "B N"] | None = None,
    blocks: MaskConfig = MaskConfig(),
) -> Mask:
    """Return the training mask, from `noise_size` numbers for each window: with V views, V B rows.

    Padding is visible only when no other patch is left. A structured mask takes the first t numbers for the columns and
    the last f for the rows.
    """
    views = blocks.views
    noise = noise.reshape(noise.shape[0] * views, -1)
    if valid is not None and views > 1:
        valid = valid.repeat_interleave(views, dim=0)
    mask = _one_view(config, grid, noise, valid, blocks)
    high, *low = (noise[:, :2] * 2**24).long().unbind(dim=1)
    mask.seed = sum(low, high * 2**24)
    return mask


def _one_view(
    config: ModelConfig,
    grid: Grid,
    noise: Float[Tensor, "B W"],
    valid: Bool[Tensor, "B N"] | None,
    blocks: MaskConfig,
) -> Mask:
    if blocks.kind == "inverse_block":
        if config.mask_ratio_2d is not None:
            raise ConfigError(
                "mask.kind=inverse_block hides model.mask_ratio of the patches; set model.mask_ratio_2d=null"
            )
        return inverse_block(grid, noise, config.mask_ratio, blocks, valid)
    if config.mask_ratio_2d is None:
        return random(noise, config.mask_ratio, valid)
    by_time = noise[:, : grid.time]
    if valid is not None:
        # a column is padding when the patch of its lowest row is
        lowest = grid.rows(valid.device).argsort(stable=True)[: grid.time]
        by_time = by_time + (~valid[:, lowest]).to(noise.dtype)
    return structured(grid, noise[:, -grid.freq :], by_time, config.mask_ratio_2d)


def masked_fraction(config: ModelConfig, grid: Grid) -> float:
    """Return the fraction of patches that `training_mask` hides."""
    if config.mask_ratio_2d is None:
        return 1 - num_keep(grid.num_patches, config.mask_ratio) / grid.num_patches
    return num_hidden(grid, config.mask_ratio_2d) / grid.num_patches


def mask_from_flags(hidden: Bool[Tensor, "B N"]) -> Mask:
    """Return the mask that hides exactly the flagged patches, both index lists in token order.

    Raises
    ------
    ConfigError
        When the crops of a batch hide different numbers of patches, or one of them hides all.
    """
    counts = hidden.sum(dim=1)
    if bool((counts != counts[0]).any()):
        raise ConfigError(
            f"every crop of a batch must hide the same number of patches; got between {int(counts.min())} and"
            f" {int(counts.max())}"
        )
    if int(counts[0]) == hidden.shape[1]:
        raise ConfigError(
            f"a mask must leave at least one of the {hidden.shape[1]} patches visible; this one hides all"
        )
    return _in_order(hidden, int(counts[0]))


def _in_order(hidden: Bool[Tensor, "B N"], count: int) -> Mask:
    """Return the mask that hides the ``count`` flagged patches of each crop, both index lists in token order."""
    order = torch.argsort(hidden.to(torch.int8), dim=1, stable=True)
    kept = hidden.shape[1] - count
    return Mask(order[:, :kept], order[:, kept:])


def named_mask(name: str, grid: Grid, noise: Float[Tensor, "B N"], mask_ratio: float) -> Mask:
    """Return a mask by name, for figures.

    - "random" hides round(N mask_ratio) patches, halves rounded down: of 95 patches 10, 5, 2 and 1 stay visible at .90,
      .95, .98 and .99, as in Figure 4 of the MSM-MAE paper. Training truncates, see `num_keep`.
    - "vertical" hides odd time columns, "horizontal" odd frequency rows, "chessboard" patches whose row plus column is
    odd.
      The ratio follows from the grid, and ``mask_ratio`` is not used.
    - "structured" hides the same fraction of random rows and of random columns, so that about ``mask_ratio`` is hidden.

    The noise sets the batch size.

    Raises
    ------
    ConfigError
        When the name is unknown, or the grid has no odd row or column to hide.
    """
    if name == "random":
        order, count = noise.argsort(dim=1), noise.shape[1]
        kept = max(1, count - math.ceil(round(count * _checked(mask_ratio) - 0.5, 9)))
        return Mask(order[:, :kept], order[:, kept:])
    if name == "structured":
        share = 1 - (1 - _checked(mask_ratio)) ** 0.5
        return structured(grid, noise[:, -grid.freq :], noise[:, : grid.time], (share, share))
    odd = {"vertical": grid.columns(), "horizontal": grid.rows(), "chessboard": grid.rows() + grid.columns()}
    if name not in odd:
        raise ConfigError(f"unknown mask {name!r}; choose one of {', '.join(PATTERNS)}")
    hidden = (odd[name] % 2 == 1).to(noise.device)
    if not bool(hidden.any()):
        raise ConfigError(
            f"the mask {name!r} hides nothing on a grid of {grid.freq} x {grid.time} patches; choose another one"
        )
    return mask_from_flags(hidden.expand(noise.shape[0], -1))
