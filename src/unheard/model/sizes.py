"""The sizes of a model: one frozen dataclass, and named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from unheard.config import Count, Fraction, Positive
from unheard.errors import ConfigError
from unheard.model.patches import Positions, TokenOrder

Size = Literal["tiny", "small", "base", "large", "huge"]

# embed_dim, depth, num_heads | decoder_embed_dim, decoder_depth, decoder_num_heads
# base: MSM-MAE, section 3. large: the reference's vit_large with MAE's decoder. huge: ViT-H with MAE's (He et al.
# 2021, arXiv 2111.06377). tiny and small: our choice; the decoder is half as wide as the encoder, because an equal one
# would cost more than half of a step.
SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (192, 12, 3, 96, 2, 3),
    "small": (384, 12, 6, 192, 4, 3),
    "base": (768, 12, 12, 384, 4, 6),
    "large": (1024, 24, 16, 512, 8, 16),
    "huge": (1280, 32, 16, 512, 8, 16),
}

# decoder_embed_dim, decoder_depth, decoder_num_heads of the local decoder. base and large: AudioMAE, published. tiny,
# small and huge: our choice, heads of 32 channels as published, an even depth so that half of the windows are shifted.
LOCAL_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (96, 4, 3),
    "small": (192, 6, 6),
    "base": (512, 16, 16),
    "large": (512, 16, 16),
    "huge": (512, 16, 16),
}

# decoder_embed_dim, decoder_depth, decoder_num_heads of a decoder that predicts latents. base and large: M2D and
# MATPAC, published. tiny and small: our choice, two thirds as wide as the encoder, heads of 32 channels as published.
# huge: our choice, that of large.
LATENT_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (128, 4, 4),
    "small": (256, 6, 8),
    "base": (512, 8, 16),
    "large": (512, 8, 16),
    "huge": (512, 8, 16),
}

# decoder_embed_dim, decoder_depth, decoder_num_heads of a decoder as wide as the encoder. base and small: BAT,
# published. tiny, large and huge: our choice.
WIDE_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (192, 4, 3),
    "small": (384, 6, 6),
    "base": (768, 6, 12),
    "large": (1024, 6, 16),
    "huge": (1280, 6, 16),
}

# decoder_embed_dim, decoder_depth, groups of the convolutional decoder. base and large: EAT, published. The
# others: our choice.
CONV_DECODERS: dict[str, tuple[int, int, int]] = {
    "tiny": (192, 4, 16),
    "small": (384, 6, 16),
    "base": (768, 6, 16),
    "large": (1024, 3, 16),
    "huge": (1280, 3, 16),
}
AxisShare = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class MaskConfig:
    """Shape and number of the masks of one window."""

    kind: Literal["random", "inverse_block"] = "random"
    """random: patches one by one, or rows and columns with model.mask_ratio_2d. inverse_block (EAT): small squares stay
    visible.
    """
    block: Count = 5
    """Side of the squares of inverse_block, in patches."""
    adjust: Fraction = 0.07
    """Added to the visible fraction when inverse_block counts its squares, because squares overlap."""
    views: Count = 1
    """Masks of each window; the teacher encodes the window once for all of them (data2vec 2.0: 8, EAT and BAT: 16)."""


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
    norm: Literal["pre", "post"] = "pre"
    """LayerNorm before each branch of a block (MAE), or after the sum (EAT, BAT); the latter needs no final norm. Also
    of the global decoder.
    """
    input_norm: bool = False
    """LayerNorm of CLS and tokens before the first encoder block (EAT, BAT)."""
    gate: bool = False
    """Multiply the output of attention by a sigmoid gate of its input (BAT); also in the global decoder."""
    initial: Literal["xavier", "normal"] = "xavier"
    """Initial weights of linear layers in the encoder: Xavier-uniform (MAE), or N(0, 0.02) with a CLS token of N(0, 1)
    (EAT).
    """
    positions: Literal["2d", "audiomae", "eat"] = "2d"
    """Encoder position table: 2-D sin-cos, AudioMAE's published one, which assigns codes of other positions, or EAT's,
    with frequency in the first half.
    """
    trainable_positions: bool = False
    """Train the encoder's position table."""
    decoder: Literal["global", "local", "cross", "conv"] = "global"
    """global: attention among all patches. local: in windows of 4 x 4 patches (AudioMAE). cross: from hidden to visible
    patches (CAE v2). conv: grouped convolutions, with noise at hidden patches (EAT).
    """
    decoder_preset: Literal["pixels", "latents", "wide"] = "pixels"
    """Preset for width and depth of a decoder that is not local or conv: small for pixels, that of M2D for a teacher's
    latents, or as wide as the encoder (BAT).
    """
    decoder_embed_dim: Count | None = None
    """Decoder width E."""
    decoder_depth: Count | None = None
    """Decoder blocks."""
    decoder_num_heads: Count | None = None
    """Decoder attention heads; groups of the convolutions of a conv decoder."""
    decoder_kernel: Count = 3
    """Side of the kernels of a conv decoder, odd."""
    decoder_projection: Literal["affine", "linear"] = "affine"
    """Layers from the encoder to the decoder and to the prediction of latents. affine: with bias (MAE). linear: without
    bias, and no first one where the decoder is as wide as the encoder (BAT).
    """
    decoder_cls: bool = True
    """The CLS token takes part in the global decoder (MAE)."""
    decoder_positions: Positions = "2d"
    """Decoder position table: 2-D sin-cos, MSM-MAE's 1-D table over the flattened index, or a published one of
    AudioMAE or EAT.
    """
    decoder_trainable_positions: bool = False
    """Train the decoder's position table (BAT)."""
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
    if config.decoder == "conv":
        _check_convolutions(chosen, config.decoder_kernel)
    return chosen


def _check_convolutions(size: Widths, kernel: int) -> None:
    if kernel % 2 == 0:
        raise ConfigError(f"model.decoder_kernel is {kernel}; it must be odd, so that a convolution keeps the grid")
    if size.embed_dim % size.decoder_num_heads:
        raise ConfigError(
            f"model.embed_dim must be a multiple of the {size.decoder_num_heads} groups of the conv decoder"
            f" (model.decoder_num_heads); got {size.embed_dim}"
        )


def _decoder_preset(config: ModelConfig) -> tuple[int, int, int]:
    if config.decoder in ("local", "conv"):
        return (LOCAL_DECODERS if config.decoder == "local" else CONV_DECODERS)[config.size]
    named = {"pixels": SIZES[config.size][3:], "latents": LATENT_DECODERS[config.size]}
    return {**named, "wide": WIDE_DECODERS[config.size]}[config.decoder_preset]


def resolved(config: ModelConfig) -> ModelConfig:
    """Return the same configuration with every preset written out, as it is stored in a model folder."""
    return replace(config, **vars(resolve_sizes(config)))
