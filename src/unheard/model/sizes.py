"""The model's numbers: one frozen dataclass, and the sizes by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from unheard.config import Count, Positive
from unheard.errors import ConfigError
from unheard.model.patches import TokenOrder

Size = Literal["tiny", "small", "base", "large"]

# embed_dim, depth, num_heads | decoder_embed_dim, decoder_depth, decoder_num_heads
# base: MSM-MAE, section 3; large: the reference's vit_large with MAE's decoder; tiny and small: our choice, the decoder half
# as wide as the encoder, since an equal one would cost more than half of a step.
SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (192, 12, 3, 96, 2, 3),
    "small": (384, 12, 6, 192, 4, 3),
    "base": (768, 12, 12, 384, 4, 6),
    "large": (1024, 24, 16, 512, 8, 16),
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of encoder and decoder, the window and how it is cut and hidden."""

    size: Size = "base"
    """Preset for every width and depth below that is left at null."""
    frames: Count = 208
    """Frames of one training window (T); 100 frames are one second with the usual 10 ms hop."""
    patch_size: tuple[Count, Count] = (16, 16)
    """Mel bands and frames of one patch (pf, pt)."""
    token_order: TokenOrder = "freq"
    """Frequency-major ("freq", MSM-MAE) or time-major ("time", AudioMAE) token index."""
    mask_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of patches hidden from the encoder."""
    embed_dim: Count | None = None
    """Encoder width D."""
    depth: Count | None = None
    """Encoder blocks."""
    num_heads: Count | None = None
    """Encoder attention heads."""
    mlp_ratio: Positive = 4.0
    """Hidden width of each block's MLP over its width."""
    cls_token: bool = True
    """Prepend a learned token without a place in the grid."""
    final_norm: bool = True
    """LayerNorm after the last encoder block."""
    decoder_embed_dim: Count | None = None
    """Decoder width E."""
    decoder_depth: Count | None = None
    """Decoder blocks."""
    decoder_num_heads: Count | None = None
    """Decoder attention heads."""
    decoder_positions: Literal["1d", "2d"] = "2d"
    """Decoder position table: 2-D sin-cos, or MSM-MAE's 1-D table over the flattened index."""
    hypotheses: Count = 1
    """Output projections of the latent predictor (R), used by objectives that predict latents."""


@dataclass(frozen=True)
class Widths:
    """The numbers of a `ModelConfig` with every null replaced by its preset."""

    embed_dim: int
    depth: int
    num_heads: int
    decoder_embed_dim: int
    decoder_depth: int
    decoder_num_heads: int


def widths(config: ModelConfig) -> Widths:
    """Resolve the sizes of ``config``.

    Raises
    ------
    ConfigError
        When a width is not a multiple of its heads, or not of 4 (2-D positions need it).
    """
    preset = SIZES[config.size]
    asked = (
        config.embed_dim,
        config.depth,
        config.num_heads,
        config.decoder_embed_dim,
        config.decoder_depth,
        config.decoder_num_heads,
    )
    chosen = Widths(*(default if value is None else value for value, default in zip(asked, preset, strict=True)))
    for name, dim, heads in (("", chosen.embed_dim, chosen.num_heads), ("decoder_", chosen.decoder_embed_dim, chosen.decoder_num_heads)):
        if dim % heads or dim % 4:
            raise ConfigError(f"model.{name}embed_dim must be a multiple of 4 and of model.{name}num_heads; got {dim} with {heads} heads")
    return chosen


def explicit(config: ModelConfig) -> ModelConfig:
    """The same configuration with every preset written out, as it is stored in a model folder."""
    return replace(config, **vars(widths(config)))
