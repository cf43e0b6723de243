"""Attention in small windows of the patch grid: AudioMAE's decoder (Huang et al. 2022, arXiv 2207.06405, section 3.2).

    a = softmax( cos(q, k) / max(tau, 0.01) + bias + mask );  x = x + norm(proj(a v));  x = x + norm(mlp(x))

The grid is cut into windows of 4 x 4 patches, and a patch attends to the 16 patches of its window. In every other block
the windows are shifted by two columns in time, so that information crosses window borders. Shifted windows wrap around
at the end, where the mask blocks attention between columns that are not adjacent. Each head has a temperature tau and a
bias. A small network computes the bias from the distance between two patches. The norm comes after each branch (as in
Swin Transformer V2, Liu et al. 2022).

Numbers without a source are the reference's behaviour. A grid that is not a whole number of windows is filled with
empty positions, to which nothing attends. An axis of one window is not shifted. Both are our choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.model.patches import Grid
from unheard.model.transformer import NORM_EPS, RecomputableModule

WINDOW = 4  # patches along each side of a window
SHIFT = 2  # columns by which windows of odd blocks are shifted; rows stay
BLOCKED = -100.0  # added to the score of a pair that must not attend
MIN_TAU = 0.01
COSINE_EPS = 1e-6
BIAS_HIDDEN = 384  # width of the network that computes the bias
BIAS_DROPOUT = 0.1  # after each of its two layers, in training


class WindowPartition(nn.Module):
    """Assignment of the tokens of a grid to windows.

    Parameters
    ----------
    grid : Grid
        Position of each token.
    shift : int
        Columns by which the grid is shifted before it is cut, towards the beginning and cyclically. In a window that
        then holds the end and the beginning of time, attention stays within each of the two. A grid of one window along
        time is not shifted.

    Attributes
    ----------
    places : Int[Tensor, "W P"]
        Token at each position of each window. Windows are in order of time then frequency, and positions likewise. N
        stands for an empty position.
    mask : Float[Tensor, "W P P"] or None
        0 where a position may attend to another one, `BLOCKED` where not; None when every position may attend to its
        whole window.
    """

    places: Int[Tensor, "W P"]
    back: Int[Tensor, " N"]
    mask: Float[Tensor, "W P P"] | None

    def __init__(self, grid: Grid, shift: int) -> None:
        super().__init__()
        shift = shift if grid.time > WINDOW else 0
        time, freq = (-(-count // WINDOW) * WINDOW for count in (grid.time, grid.freq))  # filled up to whole windows
        with torch.device(
            "cpu"
        ):  # real values even when a model is built on the meta device, to find the sizes of its weights
            tokens = torch.full((time, freq), grid.num_patches)
            tokens[grid.columns(), grid.rows()] = torch.arange(grid.num_patches)
            from_the_beginning = (torch.arange(time) >= time - shift)[:, None].expand(time, freq)
            places, around = _cut(tokens.roll(-shift, dims=0)), _cut(from_the_beginning)
            empty = places == grid.num_patches
            apart = (around[:, :, None] != around[:, None, :]) | (empty[:, :, None] != empty[:, None, :])
            self.full = not bool(empty.any())
            self.register_buffer("places", places, persistent=False)
            self.register_buffer("back", places.flatten().argsort()[: grid.num_patches], persistent=False)
            self.register_buffer(
                "mask",
                torch.zeros(apart.shape).masked_fill(apart, BLOCKED) if bool(apart.any()) else None,
                persistent=False,
            )

    def cut(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B W P E"]:
        """Return tokens by window; an empty position holds zeros."""
        filled = x if self.full else F.pad(x, (0, 0, 0, 1))
        return filled.index_select(1, self.places.flatten()).reshape(x.shape[0], *self.places.shape, x.shape[2])

    def join(self, x: Float[Tensor, "B W P E"]) -> Float[Tensor, "B N E"]:
        """Undo `cut`."""
        return x.flatten(1, 2).index_select(1, self.back)


def _cut(values: Tensor) -> Tensor:
    """Cut values on a (time, frequency) grid into windows (W, 16)."""
    time, freq = values.shape
    return values.reshape(time // WINDOW, WINDOW, freq // WINDOW, WINDOW).transpose(1, 2).reshape(-1, WINDOW * WINDOW)


def log_offsets() -> Float[Tensor, "P P 2"]:
    """Return the columns and rows between each pair of positions of a window, as sign(d) ln(1 + |d|)."""
    place = torch.arange(WINDOW * WINDOW)
    position = torch.stack([place // WINDOW, place % WINDOW], dim=-1).float()
    between = position[:, None] - position[None, :]
    return between.sign() * between.abs().log1p()


class PositionBias(nn.Module):
    """The bias of each head for each pair of positions: a small network of the log-spaced distance between them."""

    offsets: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("offsets", log_offsets(), persistent=False)
        self.fc1 = nn.Linear(2, BIAS_HIDDEN)
        self.fc2 = nn.Linear(BIAS_HIDDEN, num_heads)

    def forward(self) -> Float[Tensor, "heads P P"]:
        """Compute the bias; in training with dropout."""
        hidden = F.dropout(F.relu(self.fc1(self.offsets)), BIAS_DROPOUT, self.training)
        bias: Tensor = F.dropout(self.fc2(hidden), BIAS_DROPOUT, self.training)
        return bias.permute(2, 0, 1)


class WindowAttention(nn.Module):
    """Cosine attention among the positions of each window."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.tau = nn.Parameter(torch.ones(num_heads))
        self.bias = PositionBias(num_heads)

    def forward(self, x: Float[Tensor, "B W P E"], mask: Float[Tensor, "W P P"] | None) -> Float[Tensor, "B W P E"]:
        """Attend within each window."""
        batch, count, places, dim = x.shape
        qkv: Tensor = self.qkv(x).reshape(batch, count, places, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (B, W, heads, P, d)
        q, k = F.normalize(q, dim=-1, eps=COSINE_EPS), F.normalize(k, dim=-1, eps=COSINE_EPS)
        scores = q @ k.transpose(-2, -1) / self.tau.clamp(min=MIN_TAU)[:, None, None] + self.bias()
        if mask is not None:
            scores = scores + mask[:, None]
        mixed = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
        out: Tensor = self.proj(mixed.transpose(2, 3).reshape(x.shape))
        return out


class LocalBlock(RecomputableModule):
    """One block of width ``dim``: attention in windows, then an MLP, each normalised before it is added."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = nn.Linear(dim, int(dim * mlp_ratio))
        self.fc2 = nn.Linear(int(dim * mlp_ratio), dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Float[Tensor, "B W P E"], mask: Float[Tensor, "W P P"] | None) -> Float[Tensor, "B W P E"]:
        """Apply the block to tokens that lie in windows."""
        return self.computed(self._output, x, mask)

    def _output(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.norm1(self.attn(x, mask))
        out: Tensor = x + self.norm2(self.fc2(F.gelu(self.fc1(x))))
        return out


class LocalTransformer(nn.Module):
    """A stack of local blocks and a final LayerNorm, for tokens of the whole grid."""

    def __init__(self, dim: int, depth: int, num_heads: int, mlp_ratio: float, grid: Grid) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(LocalBlock(dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.unshifted = WindowPartition(grid, 0)
        self.shifted = WindowPartition(grid, SHIFT)

    def forward(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        """Apply all blocks, then the norm."""
        for number, block in enumerate(self.blocks):
            windows = self.shifted if number % 2 else self.unshifted
            x = windows.join(block(windows.cut(x), windows.mask))
        out: Tensor = self.norm(x)
        return out
