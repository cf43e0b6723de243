"""Attentive pooling over the patches of a learned sum of all layers.

    z_n = sum_l softmax(a)_l LN(x_ln)                 LN: layer norm without parameters
    A_hn = softmax_n(q_h . z_n / sqrt(D))             one learned query for each attention head h
    v_d = sum_n A_h(d)n z_nd,   h(d) = floor(d H / D) each head pools its own slice of the dimensions
    logits = linear layer( dropout( LN(v) ) )

Pooling by learned queries is that of attentive probes (Bardes et al. 2024, arXiv 2404.08471). Leaving out the
projections of keys and values follows efficient probing (Psomas et al. 2025, arXiv 2506.10178), because probes have few
clips. The sum over layers is ELMo's. The combination is our choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unheard.evaluation.probe.token_heads.mixing import STD, LayerMix, norm_linear, split_padding

HEADS = 8  # H; our choice


class AttentiveProbe(nn.Module):
    """The head.

    Parameters
    ----------
    layers, dim, classes : int
        L, D and C.
    """

    slices: Tensor

    def __init__(self, layers: int, dim: int, classes: int) -> None:
        super().__init__()
        self.mix = LayerMix(layers)
        self.queries = nn.Parameter(torch.empty(min(HEADS, dim), dim).normal_(std=STD))
        self.head = norm_linear(dim, classes)
        self.register_buffer("slices", torch.arange(dim) * len(self.queries) // dim)

    def forward(self, tokens: Float[Tensor, "B L N D"]) -> Float[Tensor, "B C"]:
        """Return the logits."""
        tokens, real = split_padding(tokens)
        mixed = self.mix(F.layer_norm(tokens, tokens.shape[-1:]))
        scores = mixed @ self.queries.T / mixed.shape[-1] ** 0.5
        attention = scores.masked_fill(~real[..., None], -torch.inf).softmax(dim=1)
        logits: Tensor = self.head((attention[..., self.slices] * mixed).sum(dim=1))
        return logits
