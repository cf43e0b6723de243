"""The patch grid: one object owns token order, patch geometry and positions.

A spectrogram (B, F, T) is cut into f x t patches of (pf mel bands) x (pt frames). Token n is patch (i, j), i counted
from the lowest band, j from the first frame:

    order "freq": n = i * t + j     (MSM-MAE, MaskSpec, M2D, MATPAC)
    order "time": n = j * f + i     (AudioMAE)

Inside a patch the values run band by band, each band in time order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unheard.errors import ConfigError

TokenOrder = Literal["freq", "time"]
Positions = Literal["1d", "2d", "audiomae", "eat"]


@dataclass(frozen=True)
class Grid:
    """Position of each token.

    Parameters
    ----------
    freq, time : int
        Number of patches along frequency (f) and time (t).
    patch_size : tuple of int
        Mel bands and frames of one patch (pf, pt).
    order : {"freq", "time"}
        Which axis the token index runs along last: "freq" is frequency-major, n = i * t + j.
    """

    freq: int
    time: int
    patch_size: tuple[int, int]
    order: TokenOrder = "freq"

    @classmethod
    def of(cls, n_mels: int, frames: int, patch_size: tuple[int, int], order: TokenOrder = "freq") -> Grid:
        """Return the grid that covers ``n_mels`` bands and as many whole patches as fit ``frames``.

        Raises
        ------
        ConfigError
            When a size is below 1, the bands are not a whole number of patches, or not one patch fits in time.
        """
        if min(patch_size) < 1:
            raise ConfigError(
                f"model.patch_size is {patch_size[0]}x{patch_size[1]}; it must be two whole numbers of at least 1"
            )
        if n_mels % patch_size[0] or frames < patch_size[1]:
            raise ConfigError(
                f"patches of {patch_size[0]}x{patch_size[1]} (mel bands x frames) do not tile {n_mels} bands x {frames}"
                f" frames; choose model.patch_size whose first number divides {n_mels} and whose second is at most"
                f" {frames}"
            )
        return cls(n_mels // patch_size[0], frames // patch_size[1], patch_size, order)

    @property
    def num_patches(self) -> int:
        """N = f * t."""
        return self.freq * self.time

    @property
    def patch_dim(self) -> int:
        """P = pf * pt, values in one patch."""
        return self.patch_size[0] * self.patch_size[1]

    @property
    def n_mels(self) -> int:
        """Mel bands the grid covers."""
        return self.freq * self.patch_size[0]

    @property
    def frames(self) -> int:
        """Frames the grid covers."""
        return self.time * self.patch_size[1]

    def patchify(self, spec: Float[Tensor, "B F T"]) -> Float[Tensor, "B N P"]:
        """Cut a spectrogram into patches; frames beyond the last whole patch are left out."""
        pf, pt = self.patch_size
        cut = spec[..., : self.frames].reshape(spec.shape[0], self.freq, pf, self.time, pt)
        ordered = cut.permute(0, 1, 3, 2, 4) if self.order == "freq" else cut.permute(0, 3, 1, 2, 4)
        return ordered.reshape(spec.shape[0], self.num_patches, self.patch_dim)

    def unpatchify(self, patches: Float[Tensor, "B N P"]) -> Float[Tensor, "B F T"]:
        """Put patches back together; the inverse of `patchify`."""
        pf, pt = self.patch_size
        axes = (self.freq, self.time) if self.order == "freq" else (self.time, self.freq)
        cut = patches.reshape(patches.shape[0], *axes, pf, pt)
        ordered = cut.permute(0, 1, 3, 2, 4) if self.order == "freq" else cut.permute(0, 2, 3, 1, 4)
        return ordered.reshape(patches.shape[0], self.n_mels, self.frames)

    def to_timesteps(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B t fD"]:
        """Concatenate the tokens of each time step, lowest band first (MSM-MAE, equation 1)."""
        batch, _, dim = tokens.shape
        if self.order == "freq":
            tokens = tokens.reshape(batch, self.freq, self.time, dim).transpose(1, 2)
        return tokens.reshape(batch, self.time, self.freq * dim)

    def rows(self, device: torch.device | None = None) -> Int[Tensor, " N"]:
        """Frequency index i of each token. On a given device it is computed there: a copy would wait for the device."""
        tokens = torch.arange(self.num_patches, device=device)
        return tokens // self.time if self.order == "freq" else tokens % self.freq

    def columns(self, device: torch.device | None = None) -> Int[Tensor, " N"]:
        """Time index j of each token; as `rows`."""
        tokens = torch.arange(self.num_patches, device=device)
        return tokens % self.time if self.order == "freq" else tokens // self.freq

    def crop_time(self, time: int, device: torch.device | None = None) -> Int[Tensor, " n"]:
        """Return the tokens of the first ``time`` columns, in token order of the narrower grid; device as in `rows`."""
        narrow = Grid(self.freq, time, self.patch_size, self.order)
        rows, columns = narrow.rows(device), narrow.columns(device)
        return rows * self.time + columns if self.order == "freq" else columns * self.freq + rows

    def real_columns(self, frames: int) -> int:
        """Return the number of time columns that hold at least one of the first ``frames`` frames."""
        return max(1, min(self.time, -(-frames // self.patch_size[1])))

    def valid(self, frames: Int[Tensor, " B"]) -> Bool[Tensor, "B N"]:
        """Return True where a token's patch holds at least one of the first ``frames[b]`` frames, False on pure
        padding.
        """
        starts = self.columns(frames.device) * self.patch_size[1]
        return starts[None, :] < frames.clamp(min=1)[:, None]


def position_table(kind: Positions, grid: Grid, dim: int) -> Float[Tensor, "N D"]:
    """Return a fixed position table by its kind.

    "audiomae" is the table of AudioMAE's published weights. Token n has the code of row n // t and column n % t, as if
    tokens were frequency-major, although they are time-major (a quirk of the reference). Use it to load those weights,
    not for new models. BAT's published weights have it, too. "eat" is the 2-D table with its halves swapped: the first
    half of the channels encodes frequency.
    """
    if kind == "1d":
        return sincos_1d(grid.num_patches, dim)
    if kind == "eat":
        return sincos_2d(grid, dim).roll(dim // 2, dims=1)
    return sincos_2d(grid if kind == "2d" else replace(grid, order="freq"), dim)


def sincos_2d(grid: Grid, dim: int) -> Float[Tensor, "N D"]:
    """Return the fixed 2-D table of MAE: the first half of the channels encodes time, the second half frequency.

    Each half is [sin(p w_0) .. sin(p w_{D/4-1}), cos(p w_0) ..] with w_k = 10000^(-k / (D/4)), computed in float64.

    Raises
    ------
    ConfigError
        When ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"a 2-D position table needs a width divisible by 4, got {dim}")
    halves = [_sincos(index.double(), dim // 2) for index in (grid.columns(), grid.rows())]
    return torch.cat(halves, dim=1).float()


def _sincos(position: Float[Tensor, " N"], dim: int) -> Float[Tensor, "N d"]:
    omega = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = position[:, None] * omega[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_1d(length: int, dim: int) -> Float[Tensor, "N D"]:
    """Return the interleaved 1-D table over the flattened token index.

    Channel 2i = sin(n / 10000^(2i/D)), channel 2i+1 = cos of the same angle.
    """
    rate = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate[None, :]
    table = torch.empty(length, dim, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : dim // 2]
    return table.float()
