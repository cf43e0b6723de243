"""The sizes of a model: one frozen dataclass, and named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from unheard.config import Count, Positive
from unheard.errors import ConfigError
from unheard.model.patches import Positions, TokenOrder

Size = Literal["tiny", "small", "base", "large"]

# embed_dim, depth, num_heads | decoder_embed_dim, decoder_depth, decoder_num_heads
# base: MSM-MAE, section 3. large: the reference's vit_large with MAE's decoder. tiny and small: our choice; the decoder
# is half as wide as the encoder, because an equal one would cost more than half of a step.
SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (192, 12, 3, 96, 2, 3),
    "small": (384, 12, 6, 192, 4, 3),
    "base": (768, 12, 12, 384, 4, 6),
    "large": (1024, 24, 16, 512, 8, 16),
}

# decoder_embed_dim, decoder_depth, decoder_num_heads of the local decoder. base and large: AudioMAE, published. tiny
# and small: our choice, heads of 32 channels as published, an even depth so that half of the windows are shifted.
LOCAL_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (96, 4, 3),
    "small": (192, 6, 6),
    "base": (512, 16, 16),
    "large": (512, 16, 16),
}

# decoder_embed_dim, decoder_depth, decoder_num_heads of a decoder that predicts latents. base and large: M2D and
# MATPAC, published. tiny and small: our choice, two thirds as wide as the encoder, heads of 32 channels as published.
LATENT_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (128, 4, 4),
    "small": (256, 6, 8),
    "base": (512, 8, 16),
    "large": (512, 8, 16),
}
AxisShare = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of encoder and decoder, the window, its patches and its mask."""

    size: Size = "base"
    """Preset for every width and depth below that is left at null."""
    frames: Count = 208
    """Frames of one training window (T); 100 frames are one second with the usual 10 ms hop."""
    patch_size: tuple[Count, Count] = (16, 16)
    """Mel bands and frames of one patch (pf, pt)."""
    token_order: TokenOrder = "freq"
    """Frequency-major ("freq", MSM-MAE) or time-major ("time", AudioMAE) token index."""
    mask_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Fraction of patches hidden from the encoder."""
    mask_ratio_2d: tuple[AxisShare, AxisShare] | None = None
    """Hide these fractions of whole frequency rows and whole time columns instead (AudioMAE's structured masking);
    null: mask_ratio.
    """
    embed_dim: Count | None = None
    """Encoder width D."""
    depth: Count | None = None
    """Encoder blocks."""
    num_heads: Count | None = None
    """Encoder attention heads."""
    mlp_ratio: Positive = 4.0
    """Hidden width of each block's MLP over its width."""
    cls_token: bool = True
    """Prepend a learned token without a position in the grid."""
    final_norm: bool = True
    """LayerNorm after the last encoder block."""
    positions: Literal["2d", "audiomae"] = "2d"
    """Encoder position table: 2-D sin-cos, or AudioMAE's published one, which assigns codes of other positions."""
    trainable_positions: bool = False
    """Train the encoder's position table."""
    decoder: Literal["global", "local", "cross"] = "global"
    """global: attention among all patches. local: in windows of 4 x 4 patches (AudioMAE). cross: from hidden to visible
    patches (CAE v2).
    """
    decoder_preset: Literal["pixels", "latents"] = "pixels"
    """Preset for width and depth of a decoder that is not local: small for pixels, or that of M2D for a teacher's
    latents.
    """
    decoder_embed_dim: Count | None = None
    """Decoder width E."""
    decoder_depth: Count | None = None
    """Decoder blocks."""
    decoder_num_heads: Count | None = None
    """Decoder attention heads."""
    decoder_positions: Positions = "2d"
    """Decoder position table: 2-D sin-cos, MSM-MAE's 1-D table over the flattened index, or AudioMAE's published one.
    """
    num_hypotheses: Count = 1
    """Output projections of the latent predictor (R), used by objectives that predict latents."""


@dataclass(frozen=True)
class Widths:
    """The sizes of a `ModelConfig` with every null replaced by its preset."""

    embed_dim: int
    depth: int
    num_heads: int
    decoder_embed_dim: int
    decoder_depth: int
    decoder_num_heads: int


def resolve_sizes(config: ModelConfig) -> Widths:
    """Resolve the sizes of ``config``.

    Raises
    ------
    ConfigError
        When a number is below 1, or a width is not a multiple of its heads, or not of 4 (2-D positions need it).
    """
    preset = (*SIZES[config.size][:3], *_decoder_preset(config))
    requested = (
        config.embed_dim,
        config.depth,
        config.num_heads,
        config.decoder_embed_dim,
        config.decoder_depth,
        config.decoder_num_heads,
    )
    chosen = Widths(*(default if value is None else value for value, default in zip(requested, preset, strict=True)))
    for field, value in vars(chosen).items():
        if value < 1:
            raise ConfigError(f"model.{field} is {value}; it must be a whole number of at least 1")
    for name, dim, heads in (
        ("", chosen.embed_dim, chosen.num_heads),
        ("decoder_", chosen.decoder_embed_dim, chosen.decoder_num_heads),
    ):
        if dim % heads or dim % 4:
            raise ConfigError(
                f"model.{name}embed_dim must be a multiple of 4 and of model.{name}num_heads; got {dim} with {heads}"
                " heads"
            )
    return chosen


def _decoder_preset(config: ModelConfig) -> tuple[int, int, int]:
    if config.decoder == "local":
        return LOCAL_DECODERS[config.size]
    return LATENT_DECODERS[config.size] if config.decoder_preset == "latents" else SIZES[config.size][3:]


def resolved(config: ModelConfig) -> ModelConfig:
    """Return the same configuration with every preset written out, as it is stored in a model folder."""
    return replace(config, **vars(resolve_sizes(config)))
