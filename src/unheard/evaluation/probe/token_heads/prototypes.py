"""Binarised prototypes (ProtoBin; BAT 2026, section on probes).

b_k = sign(p_k),  gradients pass straight through to p_k
f_k = max_n cos(x_Ln, b_k)     x_L: patches of the last layer
logits = W f + b
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unheard.evaluation.head_training import OneDnnLinear
from unheard.evaluation.probe.token_heads.mixing import STD, masked_max, split_padding


class BinarisedPrototypes(nn.Module):
    """The head.

    Parameters
    ----------
    dim, classes : int
        D and C.
    prototypes : int
        K. Published: 10,000.
    """

    def __init__(self, dim: int, classes: int, prototypes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.empty(prototypes, dim).normal_(std=STD))
        self.head = OneDnnLinear(prototypes, classes)

    def forward(self, tokens: Float[Tensor, "B L N D"]) -> Float[Tensor, "B C"]:
        """Return the logits; only the last layer is read."""
        last, real = split_padding(tokens[:, -1:])
        signs = self.prototypes + (self.prototypes.sign() - self.prototypes).detach()
        found = F.normalize(last[:, 0], dim=-1) @ F.normalize(signs, dim=-1).T
        logits: Tensor = self.head(masked_max(found, real))
        return logits
