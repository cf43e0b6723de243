"""Front ends with Kaldi's mel scale: AudioMAE's log filter bank and MaskSpec's log-mel.

    mel(f) = 1127 ln(1 + f / 700);  band m is a triangle in mel from edge m over edge m + 1 to edge m + 2, without area
    norm

Both were published with PyTorch. Constants are reference behaviour unless marked otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from unheard.audio.frames import FrameSpec
from unheard.audio.framing import Frontend
from unheard.audio.frontend import FLOAT32_EPS
from unheard.audio.limits import check_frontend
from unheard.errors import ConfigError

EMPHASIS = 0.97
"""Pre-emphasis of both front ends."""

LOG_MEAN, LOG_SCALE = 4.5, 5.0
"""MaskSpec's (ln(..) + 4.5) / 5, which PaSST has, too."""

Hertz = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class KaldiFbankConfig:
    """AudioMAE's and AST's front end: Kaldi's filter bank with a Hann window, without dither."""

    kind: Literal["kaldi-fbank"] = "kaldi-fbank"
    """Name of this front end in configuration files."""
    sample_rate: int = 16000
    """Hz. Audio at other rates is resampled to it."""
    frame_size: int = 400
    """Samples in one frame: 25 ms."""
    n_fft: int = 512
    """Length of the Fourier transform; even."""
    hop_size: int = 160
    """Samples from one frame to the next."""
    n_mels: int = 128
    """Mel bands."""
    f_min: float = 20.0
    """Lowest frequency, Hz."""
    f_max: float = 8000.0
    """Highest frequency, Hz; at most half the sample rate."""
    log_floor: float = FLOAT32_EPS
    """Smallest energy of a band, before the logarithm."""

    def __post_init__(self) -> None:
        check_frontend(self)


@dataclass(frozen=True)
class MaskSpecConfig:
    """MaskSpec's front end at 32 kHz, the one of PaSST."""

    kind: Literal["maskspec"] = "maskspec"
    """Name of this front end in configuration files."""
    sample_rate: int = 32000
    """Hz. Audio at other rates is resampled to it."""
    frame_size: int = 800
    """Samples in one frame: 25 ms."""
    n_fft: int = 1024
    """Length of the Fourier transform; even."""
    hop_size: int = 320
    """Samples from one frame to the next."""
    n_mels: int = 128
    """Mel bands."""
    f_min: float = 0.0
    """Lowest frequency, Hz."""
    f_max: float = 15000.0
    """Highest frequency, Hz; at most half the sample rate."""
    f_min_jitter: Hertz = 10
    """In training f_min rises by a random 0 to (this - 1) Hz for each window; 0: no variation."""
    f_max_jitter: Hertz = 1000
    """In training f_max moves by a random number of Hz for each window, at most this up and one Hz less down; 0: no
    variation.
    """
    log_offset: float = 1e-5
    """Added to the mel energy before the logarithm."""

    def __post_init__(self) -> None:
        check_frontend(self)
        if self.frame_size % 2:
            raise ConfigError(f"a centred frame needs an even frame_size; got {self.frame_size}")
        if (
            self.f_min + self.f_min_jitter >= self.f_max - self.f_max_jitter
            or self.f_max + self.f_max_jitter > self.sample_rate / 2
        ):
            raise ConfigError(
                f"f_min_jitter={self.f_min_jitter} and f_max_jitter={self.f_max_jitter} Hz must leave f_min below f_max"
                f" and f_max within half the sample rate, {self.sample_rate / 2:g} Hz"
            )

    @property
    def jitters(self) -> bool:
        """Return whether training varies the bands."""
        return self.f_min_jitter > 0 or self.f_max_jitter > 0


AUDIOMAE = KaldiFbankConfig()
"""AudioMAE at 16 kHz: 25 ms frames every 10 ms, 10 s are 998 frames."""

MASKSPEC = MaskSpecConfig()
"""MaskSpec at 32 kHz: 25 ms frames every 10 ms, 10 s are 1000 frames, its bands varied in training."""


def kaldi_mel(
    bins: Float[Tensor, " K"], n_mels: int, f_min: Float[Tensor, "*n"], f_max: Float[Tensor, "*n"]
) -> Float[Tensor, "*n F K"]:
    """Return the weights of Fourier bins in Kaldi's mel bands, for one pair of edges or many at once, on any device.

    Parameters
    ----------
    bins : Float[Tensor, "K"]
        `to_mel` of each bin's frequency; the highest, at half the sample rate, has no weight, as in Kaldi.
    f_min, f_max : Float[Tensor, "*n"]
        Hz.
    """
    low, high = _mel(f_min)[..., None, None], _mel(f_max)[..., None, None]
    width = (high - low) / (n_mels + 1)
    left = low + width * torch.arange(n_mels, dtype=bins.dtype, device=bins.device)[:, None]
    rise = (bins - left) / width
    weights = torch.minimum(rise, 2 - rise).clamp(min=0)
    weights[..., -1] = 0
    return weights


def bin_mels(n_fft: int, sample_rate: int) -> Float[Tensor, " K"]:
    """Return Kaldi's mel value of every Fourier bin, float64."""
    return _mel(torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft))


class KaldiFbank(Frontend):
    """Kaldi's log filter bank: each frame loses its mean, then gets the emphasis, then a symmetric Hann window.

        x = frame - mean(frame);  y[i] = x[i] - 0.97 x[i - 1], y[0] = 0.03 x[0];  ln(max(mel |rfft(window y)|^2, floor))

    AudioMAE first subtracts the mean of the whole clip. The mean of each frame removes any constant, so that step
    changes only rounding and is left out. Signals can therefore be streamed. Frames begin at every hop and lie within
    the signal.

    Parameters
    ----------
    config : KaldiFbankConfig
    """

    def __init__(self, config: KaldiFbankConfig = AUDIOMAE) -> None:
        framing = FrameSpec(config.sample_rate, config.hop_size, config.frame_size, config.n_fft)
        super().__init__(framing, torch.hann_window(config.frame_size, periodic=False), _matrix(config).float().numpy())
        self.config = config

    def apply_window(self, frames: Float[Tensor, "*n W"], out: Tensor | None = None) -> Float[Tensor, "*n W"]:
        """Subtract the mean, apply emphasis and window; the first sample is emphasised against itself."""
        level = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([level[..., :1], level[..., :-1]], dim=-1)
        return torch.mul(level - EMPHASIS * before, self.window, out=out)

    def compress(self, bands: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the natural logarithm, with the floor as smallest energy."""
        return torch.log(bands.clamp(min=self.config.log_floor))

    def mel_centres(self) -> Float64[np.ndarray, " F"]:
        """Return the peak frequency of each band in Hz."""
        return _centres(self.config)


class MaskSpecMel(Frontend):
    """MaskSpec's log-mel: emphasis, frames centred on every hop, symmetric Hann window, (ln(mel + 1e-5) + 4.5) / 5.

        y[n] = x[n + 1] - 0.97 x[n]

    The reference centres windows of 800 samples in frames of 1024. A frame of 800 samples padded with zeros has the
    same power.

    Parameters
    ----------
    config : MaskSpecConfig
    """

    bins: Tensor

    def __init__(self, config: MaskSpecConfig = MASKSPEC) -> None:
        framing = FrameSpec(
            config.sample_rate, config.hop_size, config.frame_size, config.n_fft, config.frame_size // 2, EMPHASIS
        )
        super().__init__(framing, torch.hann_window(config.frame_size, periodic=False), _matrix(config).float().numpy())
        self.register_buffer("bins", bin_mels(config.n_fft, config.sample_rate).float(), persistent=False)
        self.config = config
        self.jitter = self._jittered if config.jitters else None

    def apply_window(self, frames: Float[Tensor, "*n W"], out: Tensor | None = None) -> Float[Tensor, "*n W"]:
        """Apply the Hann window."""
        return torch.mul(frames, self.window, out=out)

    def compress(self, bands: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the shifted and scaled logarithm."""
        return (torch.log(bands + self.config.log_offset) + LOG_MEAN) / LOG_SCALE

    def mel_centres(self) -> Float64[np.ndarray, " F"]:
        """Return the peak frequency of each band in Hz."""
        return _centres(self.config)

    def edges(self, jitter_noise: Float[Tensor, "B 2"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Return f_min and f_max in Hz for windows with the given uniform numbers.

        Both differ from the configured values by whole numbers of Hz.
        """
        config, (low, high) = self.config, jitter_noise.unbind(-1)
        f_min = config.f_min + (low * config.f_min_jitter).floor()
        f_max = config.f_max + config.f_max_jitter - (high * max(0, 2 * config.f_max_jitter)).floor()
        return f_min, f_max

    def _jittered(self, jitter_noise: Float[Tensor, "B 2"]) -> Float[Tensor, "B F K"]:
        return kaldi_mel(self.bins, self.n_mels, *self.edges(jitter_noise.to(self.bins.dtype)))


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hertz / 700)


def _matrix(config: KaldiFbankConfig | MaskSpecConfig) -> Float[Tensor, "F K"]:
    edges = (torch.tensor(value, dtype=torch.float64) for value in (config.f_min, config.f_max))
    return kaldi_mel(bin_mels(config.n_fft, config.sample_rate), config.n_mels, *edges)


def _centres(config: KaldiFbankConfig | MaskSpecConfig) -> Float64[np.ndarray, " F"]:
    low, high = (float(_mel(torch.tensor(value, dtype=torch.float64))) for value in (config.f_min, config.f_max))
    centres: Float64[np.ndarray, " F"] = 700 * np.expm1(np.linspace(low, high, config.n_mels + 2)[1:-1] / 1127)
    return centres
