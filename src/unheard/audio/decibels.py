"""BAT's front end: a mel spectrogram in decibels, which each window scales to [0, 1] by its own extremes.

    dB[m, t] = 10 log10( max( sum_k mel[m, k] |rfft(window * wav[t hop ..])[k]|^2, power_floor ) )
    x = max(dB, max dB - top_db);  (x - min x) / (max x - min x + 1e-8)

The spectrogram holds dB without the second line. `DbMinMaxConfig.statistics` returns the normalisation of the second
line, which acts on each window after the crop, over its real frames. Padding is then 0, the value of the quietest cell.

The mel scale is HTK's, 2595 log10(1 + f / 700). Triangles rise and fall linearly in Hz, without area norm. Constants
are reference behaviour (torchaudio's MelSpectrogram).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from unheard.audio.frames import FrameSpec
from unheard.audio.framing import Frontend
from unheard.audio.frontend import Statistics
from unheard.audio.limits import check_frontend


@dataclass(frozen=True)
class DbMinMaxConfig:
    """BAT's front end: mel bands in decibels, scaled to [0, 1] within each window."""

    kind: Literal["db-minmax"] = "db-minmax"
    """Name of this front end in configuration files."""
    sample_rate: int = 16000
    """Hz. Audio at other rates is resampled to it."""
    n_fft: int = 1024
    """Samples in one window and in its Fourier transform; even."""
    hop_size: int = 160
    """Samples from one frame to the next."""
    n_mels: int = 128
    """Mel bands."""
    f_min: float = 0.0
    """Lowest frequency, Hz."""
    f_max: float = 8000.0
    """Highest frequency, Hz; at most half the sample rate."""
    log_floor: float = 1e-10
    """Smallest energy of a band, before the logarithm."""
    top_db: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 80.0
    """Decibels below the maximum of a window at which values are cut."""

    def __post_init__(self) -> None:
        check_frontend(self)

    def statistics(self) -> Statistics:
        """Return the normalisation of a window by its own extremes."""
        return Statistics((0.0,), (1.0,), top_db=self.top_db)


DB_MINMAX = DbMinMaxConfig()
"""BAT at 16 kHz: 64 ms windows every 10 ms, 10 s are 1001 frames."""


@lru_cache(maxsize=8)
def htk_matrix(config: DbMinMaxConfig) -> Float32[np.ndarray, "F K"]:
    """Return the weights of the K = n_fft/2 + 1 Fourier bins in each mel band, computed in float64."""
    edges = _htk_edges(config)
    bins = np.linspace(0.0, config.sample_rate / 2, config.n_fft // 2 + 1)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    weights: NDArray[np.float32] = np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _htk_edges(config: DbMinMaxConfig) -> Float64[np.ndarray, " E"]:
    """Return the start, peak and end frequencies of triangles in Hz: F + 2 edges."""
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in (config.f_min, config.f_max))
    edges: NDArray[np.float64] = 700.0 * (10.0 ** (np.linspace(low, high, config.n_mels + 2) / 2595.0) - 1.0)
    return edges


class DbMinMax(Frontend):
    """The front end as a module; its output is in decibels.

    Parameters
    ----------
    config : DbMinMaxConfig
    """

    def __init__(self, config: DbMinMaxConfig = DB_MINMAX) -> None:
        framing = FrameSpec(config.sample_rate, config.hop_size, config.n_fft, config.n_fft, config.n_fft // 2)
        super().__init__(framing, torch.hann_window(config.n_fft), htk_matrix(config))
        self.config = config

    def apply_window(self, frames: Float[Tensor, "*n W"], out: Tensor | None = None) -> Float[Tensor, "*n W"]:
        """Apply the periodic Hann window."""
        return torch.mul(frames, self.window, out=out)

    def compress(self, bands: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return decibels, with the floor as smallest energy."""
        return 10 * torch.log10(bands.clamp(min=self.config.log_floor))

    def mel_centres(self) -> Float64[np.ndarray, " F"]:
        """Return the peak frequency of each band in Hz."""
        return _htk_edges(self.config)[1:-1]
