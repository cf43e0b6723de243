"""A decoder of cross-attention: hidden patches attend to visible ones, not to each other.

It is the regressor of CAE v2, which MAM-CLAP may use. Zhang et al. 2022, "CAE v2: Context Autoencoder with CLIP Target"
(arXiv 2211.09799): four blocks of cross-attention.

    q = mask token + position;  q = q + attention(norm(q), memory);  q = q + mlp(norm(q))
    memory = norm(visible + position)
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unheard.model.transformer import NORM_EPS, AttentionBase, RecomputableModule, attention_weights


class CrossAttention(AttentionBase):
    """Multi-head attention of one set of tokens on another."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.memory = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B M E"], memory: Float[Tensor, "B K E"]) -> Float[Tensor, "B M E"]:
        """Attend from each token of ``x`` to the tokens of ``memory``."""
        q = self._heads(self.query(x))
        k, v = (self._heads(part) for part in self.memory(memory).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v) if self.kernel == "fused" else attention_weights(q, k) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Float[Tensor, "B heads N d"]:
        batch, tokens, dim = x.shape
        return x.reshape(batch, tokens, self.num_heads, dim // self.num_heads).transpose(1, 2)


class CrossBlock(RecomputableModule):
    """One pre-norm block."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = nn.Linear(dim, int(dim * mlp_ratio))
        self.fc2 = nn.Linear(int(dim * mlp_ratio), dim)

    def forward(self, x: Float[Tensor, "B M E"], memory: Float[Tensor, "B K E"]) -> Float[Tensor, "B M E"]:
        """Apply the block."""
        return self.computed(self._output, x, memory)

    def _output(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), memory)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


class CrossTransformer(nn.Module):
    """A stack of blocks and a final LayerNorm; the memory is normalised once and stays the same."""

    def __init__(self, dim: int, depth: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm_memory = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(
        self, x: Float[Tensor, "B M E"], memory: Float[Tensor, "B K E"]
    ) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B K E"]]:
        """Return the outputs of ``x``, and the normalised memory."""
        normalised = self.norm_memory(memory)
        for block in self.blocks:
            x = block(x, normalised)
        return self.norm(x), normalised
