"""Convex gated probing (CGP; BAT 2026, section on probes): prototypes on a convex sum of all layers.

    z_n = sum_l softmax(a)_l x_ln / |x_ln|        a convex sum of unit vectors, one for each patch n
    s_nk = z_n . p_k / |p_k|                      similarity to prototype k; at most 1
    features of k: min_n s_nk,  o . p_k / |p_k|,  max_n s_nk   ->  dropout  ->  linear layer

o is the same convex sum of the CLS tokens, or, in a published variant, the mean of z_n. The probe uses the mean, since
not every encoder has a CLS token (our choice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unheard.evaluation.head_training import OneDnnLinear
from unheard.evaluation.probe.token_heads.mixing import (
    DROPOUT,
    STD,
    LayerMix,
    masked_max,
    masked_mean,
    split_padding,
)


class ConvexGatedProbe(nn.Module):
    """The head.

    Parameters
    ----------
    layers, dim, classes : int
        L, D and C.
    prototypes : int
        K. Published: 10,000.
    """

    def __init__(self, layers: int, dim: int, classes: int, prototypes: int) -> None:
        super().__init__()
        self.mix = LayerMix(layers)
        self.prototypes = nn.Parameter(torch.empty(prototypes, dim).normal_(std=STD))
        self.drop = nn.Dropout(DROPOUT)
        self.head = OneDnnLinear(3 * prototypes, classes)

    def forward(
        self, tokens: Float[Tensor, "B L N D"], cls: Float[Tensor, "B L D"] | None = None
    ) -> Float[Tensor, "B C"]:
        """Return the logits. With ``cls`` the second feature is that of the CLS tokens, else the mean over patches."""
        tokens, real = split_padding(tokens)
        units = F.normalize(self.prototypes, dim=-1)
        found = self.mix(F.normalize(tokens, dim=-1)) @ units.T
        low, high = -masked_max(-found, real), masked_max(found, real)
        middle = masked_mean(found, real) if cls is None else self.mix(F.normalize(cls, dim=-1)) @ units.T
        logits: Tensor = self.head(self.drop(torch.stack([low, middle, high], dim=-1).flatten(1)))
        return logits
