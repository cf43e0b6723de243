"""Parts that heads on tokens share: padding, learned layer weights, and the classifier.

Tokens have the shape (B, L, N, D): L layers of N patches. Patches that a clip does not have are NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unheard.evaluation.head_training import OneDnnLinear

STD = 0.02  # of initial prototypes and queries (BAT, section 4.7 of its code: N(0, 0.02))
DROPOUT = 0.2  # in front of the classifier (BAT)


class LayerMix(nn.Module):
    """A weighted sum over layers with learned weights.

        z = sum_l softmax(a)_l x_l

    All a start equal (ELMo, Peters et al. 2018; BAT).

    Parameters
    ----------
    layers : int
        L.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(layers))

    def forward(self, x: Float[Tensor, "B L *rest"]) -> Float[Tensor, " B *rest"]:
        """Return the weighted sum."""
        return torch.einsum("bl...,l->b...", x, self.a.softmax(dim=0))


def norm_linear(dim: int, classes: int) -> nn.Sequential:
    """Return the classifier LayerNorm -> dropout -> linear layer (the linear head of BAT)."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Dropout(DROPOUT), OneDnnLinear(dim, classes))


def split_padding(tokens: Float[Tensor, "B L N D"]) -> tuple[Float[Tensor, "B L N D"], Bool[Tensor, "B N"]]:
    """Return the tokens with 0 at padding, and the flags of real patches."""
    real = ~tokens[:, 0, :, 0].isnan()
    if real.all():
        return tokens, real
    return tokens.masked_fill(~real[:, None, :, None], 0.0), real


def masked_max(values: Float[Tensor, "B N K"], real: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """Return the maximum over the real patches."""
    return values.masked_fill(~real[..., None], -torch.inf).amax(dim=1)


def masked_mean(values: Float[Tensor, "B N K"], real: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """Return the mean over the real patches; values at padding are 0."""
    return values.sum(dim=1) / real.sum(dim=1, keepdim=True)
