"""A convolutional decoder over the grid of patches, with noise at the hidden ones: EAT's, after data2vec 2.0.

    x = visible latents at their places, N(0, 0.01) elsewhere
    x = x + gelu(norm(conv(x)))      for each layer; without "x +" where the width changes

Chen et al. 2024 (arXiv 2401.03497), Baevski et al. 2022 (arXiv 2212.07525). There is no mask token, no position and no
CLS token. The norm is a LayerNorm over channels without gain and bias, with eps 1e-5. Numbers are those of the
reference.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.model.masking import Mask
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.model.transformer import RecomputableModule

NOISE_STD = 0.01
DECODER_EPS = 1e-5
BITS = 31  # of one uniform number


class ConvDecoder(RecomputableModule):
    """Map visible tokens to one output for every patch of the grid.

    The first layer takes tokens of the encoder's width. Weights begin as PyTorch's default, as in the reference.
    """

    def __init__(self, config: ModelConfig, grid: Grid) -> None:
        super().__init__()
        size = resolve_sizes(config)
        self.grid, self.embed_dim = grid, size.decoder_embed_dim
        widths = [size.embed_dim, *[size.decoder_embed_dim] * size.decoder_depth]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, config.decoder_kernel, padding="same", groups=size.decoder_num_heads)
            for before, after in pairwise(widths)
        )

    def forward(
        self, visible: Float[Tensor, "B K D"], mask: Mask, cls: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B N E"]:
        """Place the visible tokens on the grid, fill the rest with noise and decode; the CLS token is left out.

        A mask without seeds has the mean of the noise, 0.
        """
        x = self.grid_of(self.placed(visible, mask))  # (B, D, t, f)
        for layer in self.layers:
            x = self.computed(_applied, layer, x)
        return self.tokens_of(x)

    def placed(self, visible: Float[Tensor, "B K D"], mask: Mask) -> Float[Tensor, "B N D"]:
        """Return the input of the first layer in token order."""
        dim = visible.shape[2]
        full = visible.new_zeros(visible.shape[0], self.grid.num_patches, dim)
        places = [(mask.keep, visible)]
        if mask.seed is not None:
            places.append((mask.hide, self.noise(mask, dim).to(visible.dtype)))
        for index, values in places:
            full = full.scatter(1, index[:, :, None].expand(-1, -1, dim), values)
        return full

    def noise(self, mask: Mask, dim: int) -> Float[Tensor, "B M D"]:
        """Return the noise of the hidden patches: a function of each row's seed and of the patch."""
        assert mask.seed is not None
        return NOISE_STD * normal_numbers(mask.seed, mask.hide, dim)

    def grid_of(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B D t f"]:
        """Return tokens as an image of columns and rows."""
        grid, (batch, _, dim) = self.grid, tokens.shape
        if grid.order == "time":
            return tokens.reshape(batch, grid.time, grid.freq, dim).permute(0, 3, 1, 2)
        return tokens.reshape(batch, grid.freq, grid.time, dim).permute(0, 3, 2, 1)

    def tokens_of(self, image: Float[Tensor, "B E t f"]) -> Float[Tensor, "B N E"]:
        """Undo `grid_of`."""
        order = (0, 2, 3, 1) if self.grid.order == "time" else (0, 3, 2, 1)
        return image.permute(*order).flatten(1, 2)


def _applied(layer: nn.Module, x: Tensor) -> Tensor:
    y = layer(x).movedim(1, -1)
    y = F.gelu(F.layer_norm(y, y.shape[-1:], eps=DECODER_EPS)).movedim(-1, 1)
    return x + y if x.shape == y.shape else y


def normal_numbers(seed: Int[Tensor, " B"], index: Int[Tensor, "B M"], dim: int) -> Float[Tensor, "B M d"]:
    """Return ``dim`` normal numbers for each token, from a hash of seed, token and channel (Box and Muller 1958).

    They depend neither on the device nor on the other rows, so that a step can be repeated by any number of processes.
    """
    pairs = torch.arange(-(-dim // 2), device=seed.device)
    state = mixed(mixed(mixed(seed)[:, None] + index)[:, :, None] + pairs)  # (B, M, D / 2)
    low, high = state & (2**BITS - 1), (state >> BITS) & (2**BITS - 1)
    radius = (-2 * torch.log((low + 1).float() * 2.0**-BITS)).sqrt()
    angle = high.float() * (2 * math.pi * 2.0**-BITS)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., :dim]


def mixed(state: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return a hash of whole numbers: SplitMix64 (Steele, Lea and Flood 2014) on signed numbers, which wrap around."""
    state = state - 7046029254386353131  # the golden gamma
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        state = (state ^ (state >> shift & 2 ** (64 - shift) - 1)) * factor
    return state ^ (state >> 31 & 2**33 - 1)
