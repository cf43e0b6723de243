"""The log-mel spectrogram of MSM-MAE, M2D and MATPAC, and the statistics that spectrograms are normalised by.

log-mel[m, t] = ln( sum_k mel[m, k] |rfft(window * wav[t hop .. t hop + n_fft])[k]|^2 + log_offset )

See `unheard.audio.framing` for the ways to compute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from numpy.typing import NDArray
from torch import Tensor

from unheard.audio.frames import FrameSpec
from unheard.audio.framing import Frontend
from unheard.audio.limits import check_frontend
from unheard.devices import to_device
from unheard.errors import ConfigError

FLOAT32_EPS = 1.1920928955078125e-07
"""Machine epsilon of float32, added before the logarithm by MSM-MAE and MATPAC (reference behaviour). Silence becomes
ln(epsilon) = -15.942385.
"""

UNIT_EPS = 1e-8  # of `scaled_to_unit`; BAT reference

MIN_STD = 1e-3
"""Smallest divisor in `Statistics.normalise`, so that a corpus of silence stays finite (our choice)."""


@dataclass(frozen=True)
class LogMelConfig:
    """Parameters of a log-mel spectrogram. The defaults are those of MSM-MAE at 16 kHz."""

    kind: Literal["log-mel"] = "log-mel"
    """Name of this front end in configuration files."""
    sample_rate: int = 16000
    """Hz. Audio at other rates is resampled to it."""
    n_fft: int = 400
    """Samples in one window and in its Fourier transform; even."""
    hop_size: int = 160
    """Samples from one frame to the next."""
    n_mels: int = 80
    """Mel bands."""
    f_min: float = 50.0
    """Lowest frequency, Hz."""
    f_max: float = 8000.0
    """Highest frequency, Hz; at most half the sample rate."""
    center: bool = True
    """Reflect half a window at both ends, so that frame i is centred on sample i * hop_size; otherwise frame i starts
    there.
    """
    log_offset: float = FLOAT32_EPS
    """Added to the mel energy before the logarithm."""

    def __post_init__(self) -> None:
        check_frontend(self)


MSM_MAE_16K = LogMelConfig()
"""MSM-MAE, reference behaviour at 16 kHz: 25 ms windows every 10 ms."""

MSM_MAE_32K = LogMelConfig(sample_rate=32000, n_fft=800, hop_size=320, f_max=16000.0)
"""MSM-MAE, reference behaviour of the newer runtime at 32 kHz."""

MATPAC = LogMelConfig(center=False)
"""MATPAC, reference behaviour: as MSM-MAE at 16 kHz without padding at the ends."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of un-normalised spectrograms, global or for each mel band.

    Parameters
    ----------
    mean, std : tuple of float
        One value, or one for each mel band.
    top_db : float, optional
        Scale each window to [0, 1] by its own extremes instead, values below its maximum minus ``top_db`` cut. Mean and
        std are then 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    top_db: float | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(f"statistics need as many means as deviations, got {len(self.mean)} and {len(self.std)}")

    def with_min_std(self, smallest: float) -> Statistics:
        """Return the same statistics with no deviation below ``smallest``."""
        return Statistics(self.mean, tuple(max(value, smallest) for value in self.std), self.top_db)

    def normalise(
        self, spec: Float[Tensor, "*batch F T"], real: Bool[Tensor, "*batch T"] | None = None
    ) -> Float[Tensor, "*batch F T"]:
        """Return (spec - mean) / std, band-major; a std below `MIN_STD` is replaced by `MIN_STD`.

        Parameters
        ----------
        real : Bool[Tensor, "*batch T"], optional
            False on frames that are not part of the window; they have no part in its extremes, and their values are
            undefined.
        """
        if self.top_db is not None:
            return scaled_to_unit(spec, self.top_db, real)
        values = torch.tensor([self.mean, self.divisors()], dtype=spec.dtype)
        mean, std = to_device(values, spec.device)[:, :, None].unbind()
        return (spec - mean) / std

    def normalise_frames(self, spec: Float32[np.ndarray, "*batch T F"]) -> Float32[np.ndarray, "*batch T F"]:
        """Apply `normalise` to time-major arrays, the layout of `Frontend.spectrogram_cpu`."""
        if self.top_db is not None:
            return self.normalise(torch.from_numpy(spec).transpose(-1, -2)).transpose(-1, -2).numpy()
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.divisors(), np.float32)
        return np.asarray((spec - mean) / std, np.float32)

    def divisors(self) -> tuple[float, ...]:
        """Return the deviations by which `normalise` divides: none below `MIN_STD`."""
        return tuple(max(value, MIN_STD) for value in self.std)


def scaled_to_unit(
    spec: Float[Tensor, "*batch F T"], top_db: float, real: Bool[Tensor, "*batch T"] | None = None
) -> Float[Tensor, "*batch F T"]:
    """Return x = (max(spec, most - top_db) - least) / (most - least + 1e-8), by the extremes of each window (BAT)."""
    known = torch.ones_like(spec, dtype=torch.bool) if real is None else real[..., None, :].expand_as(spec)
    most = spec.masked_fill(~known, -torch.inf).amax(dim=(-2, -1), keepdim=True)
    cut = torch.maximum(spec, most - top_db)
    least = cut.masked_fill(~known, torch.inf).amin(dim=(-2, -1), keepdim=True)
    return (cut - least) / (most - least + UNIT_EPS)


@lru_cache(maxsize=8)
def mel_matrix(config: LogMelConfig) -> Float32[np.ndarray, "F K"]:
    """Return the weights of the K = n_fft/2 + 1 Fourier bins in each mel band, computed in float64.

    The scale and the area normalisation are Slaney's. The scale is linear to 1000 Hz (200/3 Hz a mel) and logarithmic
    above (27 mels for a factor 6.4), from Slaney's Auditory Toolbox (1998). Triangle m rises from edge m to edge m+1
    and falls to edge m+2, and is scaled by 2 / (edge m+2 - edge m).
    """
    edges = _slaney_edges(config)
    bins = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    weights: NDArray[np.float32] = (np.maximum(0.0, np.minimum(rise, fall)) * area[:, None]).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _slaney_edges(config: LogMelConfig) -> Float64[np.ndarray, " E"]:
    """Return the start, peak and end frequencies of triangles in Hz: F + 2 edges."""
    step, knee, log_step = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < knee else float(knee / step + np.log(hertz / knee) / log_step)

    mels = np.linspace(to_mel(config.f_min), to_mel(config.f_max), config.n_mels + 2)
    edges: NDArray[np.float64] = np.where(
        mels < knee / step, mels * step, knee * np.exp(log_step * (mels - knee / step))
    )
    return edges


class LogMel(Frontend):
    """The log-mel front end as a module.

    Parameters
    ----------
    config : LogMelConfig

    Examples
    --------
    >>> LogMel(MSM_MAE_16K)(torch.zeros(1, 16000)).shape
    torch.Size([1, 80, 101])
    """

    def __init__(self, config: LogMelConfig = MSM_MAE_16K) -> None:
        pad = config.n_fft // 2 if config.center else 0
        framing = FrameSpec(config.sample_rate, config.hop_size, config.n_fft, config.n_fft, pad)
        super().__init__(framing, torch.hann_window(config.n_fft), mel_matrix(config))
        self.config = config

    def apply_window(self, frames: Float[Tensor, "*n W"], out: Tensor | None = None) -> Float[Tensor, "*n W"]:
        """Apply the Hann window."""
        return torch.mul(frames, self.window, out=out)

    def compress(self, bands: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the natural logarithm, after a small offset."""
        return torch.log(bands + self.config.log_offset)

    def mel_centres(self) -> Float64[np.ndarray, " F"]:
        """Return the peak frequency of each band in Hz."""
        return _slaney_edges(self.config)[1:-1]


def band_statistics(spec: Float[Tensor, "*n F T"]) -> Float[Tensor, "*n 2*F"]:
    """Return the mean and the standard deviation of each band over time, the simplest baseline."""
    return torch.cat([spec.mean(dim=-1), spec.std(dim=-1, correction=0)], dim=-1)
