"""The decoder: mask tokens replace the hidden patches, and a small Transformer predicts an output for every patch.

- global: attention over all patches, CLS token included (MAE).
- local: attention in small windows, without the CLS token (AudioMAE), see `unheard.model.local_decoder`.
- cross: hidden patches attend to visible ones only (CAE v2), see `unheard.model.cross_decoder`.
- conv: convolutions with noise instead of mask tokens (EAT), see `unheard.model.conv_decoder`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.model.conv_decoder import ConvDecoder
from unheard.model.cross_decoder import CrossTransformer
from unheard.model.encoder import TOKEN_STD
from unheard.model.local_decoder import LocalTransformer
from unheard.model.masking import Mask
from unheard.model.patches import Grid, position_table
from unheard.model.sizes import ModelConfig, Widths, resolve_sizes
from unheard.model.transformer import Transformer, initialise


class Decoder(nn.Module):
    """Map visible tokens to one output for every patch of the grid."""

    positions: Tensor

    def __init__(self, config: ModelConfig, grid: Grid) -> None:
        super().__init__()
        size = resolve_sizes(config)
        dim = size.decoder_embed_dim
        self.embed_dim = dim
        narrow, same = config.decoder_projection == "linear", dim == size.embed_dim
        self.embed: nn.Module = nn.Identity() if narrow and same else nn.Linear(size.embed_dim, dim, bias=not narrow)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        table = position_table(config.decoder_positions, grid, dim)
        if config.decoder_trainable_positions:
            self.positions = nn.Parameter(table)
        else:
            self.register_buffer("positions", table)
        self.kind = config.decoder
        self.takes_cls = config.decoder == "global" and config.decoder_cls
        self.transformer = _transformer(config, size, grid)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as MAE does."""
        initialise(self)
        nn.init.normal_(self.mask_token, std=TOKEN_STD)

    def forward(
        self, visible: Float[Tensor, "B K D"], mask: Mask, cls: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B N E"]:
        """Place the visible tokens on the grid, fill the rest with the mask token and decode.

        In the global decoder the CLS token takes part, without a position, and is dropped at the end.
        """
        visible_tokens = self.embed(visible)  # (B, K, E)
        if self.kind == "cross":
            return self._cross_decode(visible_tokens, mask)
        batch, _, dim = visible_tokens.shape
        full = self.mask_token.to(visible_tokens.dtype).expand(batch, self.positions.shape[0], dim)
        full = full.scatter(1, mask.keep[:, :, None].expand(-1, -1, dim), visible_tokens) + self.positions.to(
            visible_tokens.dtype
        )
        cls = cls if self.takes_cls else None
        if cls is not None:
            full = torch.cat([self.embed(cls)[:, None], full], dim=1)
        decoded: Tensor = self.transformer(full)
        return decoded if cls is None else decoded[:, 1:]

    def _cross_decode(self, visible_tokens: Float[Tensor, "B K E"], mask: Mask) -> Float[Tensor, "B N E"]:
        """Decode hidden patches by cross-attention to the visible ones; return the outputs of both in token order."""
        positions = self.positions.to(visible_tokens.dtype)
        queries = self.mask_token.to(visible_tokens.dtype) + positions[mask.hide]
        outputs, memory = self.transformer(queries, visible_tokens + positions[mask.keep])
        full: Tensor = outputs.new_zeros(outputs.shape[0], *positions.shape)
        for index, values in ((mask.hide, outputs), (mask.keep, memory)):
            full = full.scatter(1, index[:, :, None].expand(-1, -1, values.shape[2]), values)
        return full


def build_decoder(config: ModelConfig, grid: Grid) -> Decoder | ConvDecoder:
    """Build the decoder of a configuration."""
    return ConvDecoder(config, grid) if config.decoder == "conv" else Decoder(config, grid)


def _transformer(config: ModelConfig, size: Widths, grid: Grid) -> nn.Module:
    shape = (size.decoder_embed_dim, size.decoder_depth, size.decoder_num_heads, config.mlp_ratio)
    if config.decoder == "local":
        return LocalTransformer(*shape, grid)
    if config.decoder == "cross":
        return CrossTransformer(*shape)
    return Transformer(*shape, config.norm == "pre", config.norm, config.gate)
