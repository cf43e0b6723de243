"""Transformer blocks, used by encoder, decoder and teacher.

    pre-norm    x = x + attention(norm(x));   x = x + mlp(norm(x))       (MAE)
    post-norm   x = norm(x + attention(x));   x = norm(x + mlp(x))       (EAT, BAT)

LayerNorm eps 1e-6, exact GELU, no dropout: the values of MAE, on which every method here is based. Fine-tuning may drop
whole branches of a sample (`use_drop_path`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

AttentionKernel = Literal["fused", "explicit"]
NormPlace = Literal["pre", "post"]
NORM_EPS = 1e-6  # MAE reference
Output = TypeVar("Output")


class AttentionBase(nn.Module):
    """Base of all attention modules: computed by PyTorch's fused kernel, or by plain products."""

    kernel: AttentionKernel = "fused"


class Attention(AttentionBase):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    With ``gate`` the joined heads are multiplied by sigmoid(W_g x + b_g), element by element, before the output
    projection (BAT; Qiu et al. 2025, arXiv 2505.06708).
    """

    def __init__(self, dim: int, num_heads: int, gate: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, dim) if gate else None

    def forward(
        self, x: Float[Tensor, "B N D"], bias: Float[Tensor, "B 1 1 N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Attend over the tokens; ``bias`` is added to the scores of each token as a key."""
        q, k, v = self._heads(x)
        if self.kernel == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:  # the fused kernel's backward is slow on CPU in bfloat16
            mixed = attention_weights(q, k, bias) @ v
        joined = mixed.transpose(1, 2).flatten(2)
        out: Tensor = self.proj(joined if self.gate is None else joined * self.gate(x).sigmoid())
        return out

    def weights(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B heads N N"]:
        """Return the attention of each token (row) to each other token (column); rows sum to one."""
        q, k, _ = self._heads(x)
        return attention_weights(q, k)

    def _heads(self, x: Float[Tensor, "B N D"]) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, dim = x.shape
        qkv: Tensor = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, d)
        return q, k, v


def attention_weights(
    q: Float[Tensor, "B heads N d"], k: Float[Tensor, "B heads K d"], bias: Float[Tensor, "B 1 1 K"] | None = None
) -> Float[Tensor, "B heads N K"]:
    """Return softmax(q k / sqrt(d) + bias), summed in float32."""
    scores: Tensor = (q * float(q.shape[-1]) ** -0.5) @ k.transpose(-2, -1)
    scores = scores if bias is None else scores + bias
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)


class RecomputableModule(nn.Module):
    """Base of modules whose activations are stored for the backward pass, or computed again in it.

    Attributes
    ----------
    recompute : bool
        Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): only the inputs are stored.
    """

    recompute = False

    def computed(self, function: Callable[..., Output], *inputs: object) -> Output:
        """Return ``function(*inputs)``; with ``recompute``, the backward pass calls it a second time with the same
        random numbers.
        """
        if self.recompute and torch.is_grad_enabled():
            return cast(Output, checkpoint(function, *inputs, use_reentrant=False))
        return function(*inputs)


class Block(RecomputableModule):
    """One block of width ``dim``."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, norm: NormPlace = "pre", gate: bool = False) -> None:
        super().__init__()
        self.post = norm == "post"
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads, gate)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = nn.Linear(dim, int(dim * mlp_ratio))
        self.fc2 = nn.Linear(int(dim * mlp_ratio), dim)
        self.drop_path = 0.0

    def forward(
        self, x: Float[Tensor, "B N D"], bias: Float[Tensor, "B 1 1 N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Apply the block."""
        return self.computed(self._outputs, x, bias)[0]

    def branches(
        self, x: Float[Tensor, "B N D"], bias: Float[Tensor, "B 1 1 N"] | None = None
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """Apply the block; return its output, and the output of its MLP before the residual and the norm."""
        return self.computed(self._outputs, x, bias)

    def _outputs(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        x = x + self._drop_path(self.attn(self.attention_input(x), bias))
        x = self.norm1(x) if self.post else x
        branch: Tensor = self.fc2(F.gelu(self.fc1(x if self.post else self.norm2(x))))
        x = x + self._drop_path(branch)
        return (self.norm2(x) if self.post else x), branch

    def attention_input(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return the tokens that attention takes: normalised ones in a pre-norm block."""
        out: Tensor = x if self.post else self.norm1(x)
        return out

    def _drop_path(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Drop a branch for some samples in training; the remaining ones are scaled so that the mean stays the same."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = (torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop_path).to(branch.dtype)
        return branch * kept / (1 - self.drop_path)


class Transformer(nn.Module):
    """A stack of blocks and a final LayerNorm (left out with ``final_norm=False``)."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        final_norm: bool = True,
        norm: NormPlace = "pre",
        gate: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, norm, gate) for _ in range(depth))
        self.norm: nn.Module = nn.LayerNorm(dim, eps=NORM_EPS) if final_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "B N D"], bias: Float[Tensor, "B 1 1 N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Apply all blocks, then the norm.

        Parameters
        ----------
        bias : Float[Tensor, "B 1 1 N"], optional
            Added to the attention scores of each token as a key: a large negative number excludes a token.
        """
        for block in self.blocks:
            x = block(x, bias)
        out: Tensor = self.norm(x)
        return out

    def layers(self, x: Float[Tensor, "B N D"]) -> list[Float[Tensor, "B N D"]]:
        """Return the output of every block; the last one normalised."""
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs

    def branches(self, x: Float[Tensor, "B N D"]) -> list[tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"]]]:
        """Return the output of every block, not normalised, with the output of its MLP (see `Block.branches`)."""
        outputs = []
        for block in self.blocks:
            outputs.append(cast(Block, block).branches(x))
            x = outputs[-1][0]
        return outputs

    def attention(self, x: Float[Tensor, "B N D"], layer: int | None = None) -> Float[Tensor, "B heads N N"]:
        """Return the attention weights of a block, counted from 1; default: the last one."""
        number = len(self.blocks) if layer is None else layer
        for block in self.blocks[: number - 1]:
            x = block(x)
        chosen = cast(Block, self.blocks[number - 1])
        return chosen.attn.weights(chosen.attention_input(x))


def use_attention(module: nn.Module, kernel: AttentionKernel) -> None:
    """Set the attention kernel of every block below ``module``."""
    for child in module.modules():
        if isinstance(child, AttentionBase):
            child.kernel = kernel


def use_recompute(module: nn.Module) -> None:
    """Compute the activations of every block below ``module`` again in the backward pass, instead of storing them."""
    for child in module.modules():
        if isinstance(child, RecomputableModule):
            child.recompute = True


def use_drop_path(transformer: Transformer, rate: float) -> None:
    """Drop each branch of a sample with a probability that grows linearly from 0 in the first block to ``rate`` in the
    last.

    Stochastic depth (Huang et al. 2016) with the linear rule of the MAE reference; it acts in training only.
    """
    depth = len(transformer.blocks)
    for number, block in enumerate(transformer.blocks):
        cast(Block, block).drop_path = rate * number / max(depth - 1, 1)


def initialise(module: nn.Module, std: float | None = None) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, 1 and 0 for every norm (MAE reference).

    The fused query-key-value projection counts as one 3D x D matrix, as in the reference. With ``std``, weights are
    normal with this deviation (EAT: 0.02).
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            if std is None:
                nn.init.xavier_uniform_(child.weight)
            else:
                nn.init.normal_(child.weight, std=std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
