"""The encoder: a ViT that processes only the patches at the given indices.

    x = W patch + position;  [CLS; x] -> (input norm) -> blocks -> norm

The patch embedding is a linear layer on flattened patches, applied to the visible ones only: the same numbers as a
strided convolution over the whole spectrogram (MAE), without its cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.errors import ConfigError
from unheard.model.patches import Grid, position_table
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.model.transformer import NORM_EPS, Transformer, initialise

EXCLUDED = -1e9  # added to the score of a token that takes no part: its weight after the softmax is exactly 0
TOKEN_STD = 0.02  # CLS and mask tokens start as N(0, 0.02): MAE reference
LINEAR_STD = 0.02  # of linear layers in EAT, whose CLS token starts as N(0, 1)


class Encoder(nn.Module):
    """Vision Transformer over spectrogram patches.

    Parameters
    ----------
    config : ModelConfig
        Sizes, CLS token, positions, final norm.
    grid : Grid
        The full window; its position table is stored with the weights, fixed unless ``trainable_positions`` is set.
    """

    positions: Tensor

    def __init__(self, config: ModelConfig, grid: Grid) -> None:
        super().__init__()
        size = resolve_sizes(config)
        self.grid = grid
        self.embed_dim = size.embed_dim
        self.patch_embed = nn.Linear(grid.patch_dim, size.embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(size.embed_dim)) if config.cls_token else None
        table = position_table(config.positions, grid, size.embed_dim)
        if config.trainable_positions:
            self.positions = nn.Parameter(table)
        else:
            self.register_buffer("positions", table)
        self.input_norm = nn.LayerNorm(size.embed_dim, eps=NORM_EPS) if config.input_norm else None
        shape = (size.embed_dim, size.depth, size.num_heads, config.mlp_ratio)
        self.transformer = Transformer(*shape, config.final_norm, config.norm, config.gate)
        self._normal = config.initial == "normal"
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as MAE does, or EAT; the bias of the patch embedding keeps PyTorch's convolution default."""
        initialise(self.transformer, LINEAR_STD if self._normal else None)
        nn.init.xavier_uniform_(self.patch_embed.weight)
        bound = self.patch_embed.in_features**-0.5
        nn.init.uniform_(self.patch_embed.bias, -bound, bound)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1.0 if self._normal else TOKEN_STD)

    def tokens(
        self, patches: Float[Tensor, "B N P"], index: Int[Tensor, "R K"] | None = None
    ) -> Float[Tensor, "R K D"]:
        """Embed the patches at ``index`` (all of them when it is left out) and add their positions.

        ``index`` may have several rows for each window, see `take`.
        """
        chosen, positions = (
            (patches, self.positions) if index is None else (take(patches, index), self.positions[index])
        )
        tokens: Tensor = self.patch_embed(chosen) + positions
        return tokens

    def with_cls(self, tokens: Float[Tensor, "B K D"]) -> Float[Tensor, "B K2 D"]:
        """Prepend the CLS token, if the model has one; its position is zero. Then apply the input norm, if there is
        one.
        """
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], 1, -1).to(tokens.dtype), tokens], dim=1)
        return tokens if self.input_norm is None else self.input_norm(tokens)

    def split_cls(self, x: Float[Tensor, "B K2 D"]) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B D"] | None]:
        """Undo `with_cls`: return the tokens, and the CLS output or None."""
        return (x, None) if self.cls_token is None else (x[:, 1:], x[:, 0])

    def forward(
        self, patches: Float[Tensor, "B N P"], keep: Int[Tensor, "R K"] | None = None
    ) -> tuple[Float[Tensor, "R K D"], Float[Tensor, "R D"] | None]:
        """Encode the patches at ``keep``, which has one row for each window, or several (views).

        Returns
        -------
        tokens : Float[Tensor, "R K D"]
            Output of the visible patches, in the order of ``keep``.
        cls : Float[Tensor, "R D"] or None
            Output of the CLS token.
        """
        return self.split_cls(self.transformer(self.with_cls(self.tokens(patches, keep))))

    def with_layers(
        self, patches: Float[Tensor, "B N P"], keep: Int[Tensor, "R K"], numbers: tuple[int, ...]
    ) -> tuple[Float[Tensor, "R K D"], Float[Tensor, "R D"] | None, dict[int, Float[Tensor, "R K D"]]]:
        """Encode the patches at ``keep`` as `forward` does, and return the tokens after some blocks as well.

        Parameters
        ----------
        numbers : tuple of int
            Blocks, counted from 1; the last one is normalised.
        """
        outputs = [self.split_cls(x) for x in self.transformer.layers(self.with_cls(self.tokens(patches, keep)))]
        return (*outputs[-1], {number: outputs[number - 1][0] for number in numbers})

    def masked(
        self, patches: Float[Tensor, "B N P"], real: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B D"] | None]:
        """Encode all patches, without attention to those that are not ``real``.

        The outputs of the real patches equal those of `forward` with the real patches as ``keep``, but the shapes do
        not depend on their number. Exported graphs need this.

        Returns
        -------
        tokens, cls
            As `forward`; the tokens of patches that are not real have no meaning.
        """
        tokens = self.with_cls(self.tokens(patches))
        bias = torch.zeros_like(real, dtype=tokens.dtype).masked_fill(~real, EXCLUDED)
        if self.cls_token is not None:
            bias = F.pad(bias, (1, 0))
        return self.split_cls(self.transformer(tokens, bias[:, None, None]))

    def layers(
        self, patches: Float[Tensor, "B N P"], keep: Int[Tensor, "B K"] | None = None
    ) -> list[Float[Tensor, "B K D"]]:
        """Return the tokens after every block, CLS left out; the last entry is normalised."""
        outputs = self.transformer.layers(self.with_cls(self.tokens(patches, keep)))
        return [self.split_cls(x)[0] for x in outputs]

    def attention(
        self, patches: Float[Tensor, "B N P"], keep: Int[Tensor, "B K"] | None = None, layer: int | None = None
    ) -> Float[Tensor, "B heads K K"]:
        """Return the attention of a block, counted from 1, among the patches; default: the last block.

        The CLS row and column are removed, so rows sum to less than one.
        """
        weights = self.transformer.attention(self.with_cls(self.tokens(patches, keep)), layer)
        return weights if self.cls_token is None else weights[:, :, 1:, 1:]


def layer_numbers(layer: int | Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Return the numbers of blocks, counted from 1.

    Parameters
    ----------
    layer : int or sequence of int, optional
        1 to ``depth``, or negative from the end; None: the last one.

    Raises
    ------
    ConfigError
        When there is no such block, none is named, or one is named twice.
    """
    given = (depth,) if layer is None else (layer,) if isinstance(layer, int) else tuple(layer)
    if wrong := [each for each in given if not (1 <= each <= depth or -depth <= each <= -1)]:
        raise ConfigError(f"layer must be 1 to {depth}, or -{depth} to -1 from the end; got {wrong[0]}")
    numbers = tuple(each if each > 0 else depth + 1 + each for each in given)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError(f"layer must name at least one block, and each only once; got {list(given)}")
    return numbers


def take(tokens: Float[Tensor, "B N D"], index: Int[Tensor, "R K"]) -> Float[Tensor, "R K D"]:
    """Select tokens by index, separately for each window.

    ``index`` has one row for each window, or V rows in turn, its views; the result has as many. Nothing is repeated.
    """
    views = index.shape[0] // tokens.shape[0]
    if views > 1:
        windows = torch.arange(tokens.shape[0], device=index.device).repeat_interleave(views)
        return tokens[windows[:, None], index]
    return torch.gather(tokens, 1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
