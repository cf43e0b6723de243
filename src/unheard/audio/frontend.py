"""Waveform to log-mel spectrogram: one transform, three ways to run it.

    log-mel[m, t] = ln( sum_k mel[m, k] |rfft(window * wav[t hop .. t hop + n_fft])[k]|^2 + log_offset )

`LogMel.forward` takes batches of tensors on any device, `LogMel.fast` one clip on a CPU core as quickly as it goes,
`LogMel.stream` sound of any length in constant memory. All three agree to about 1e-4.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.errors import AudioError, ConfigError

FLOAT32_EPS = 1.1920928955078125e-07
"""Machine epsilon of float32, added before the logarithm by MSM-MAE and MATPAC (reference behaviour): silence is ln of it, -15.942385."""

MIN_STD = 1e-3
"""Smallest divisor in `Statistics.normalise`, so that a corpus of silence stays finite (our choice)."""

BLOCK_FRAMES = 512
"""Frames transformed at once on a CPU: few enough for the cache, enough to hide the cost of the calls (our choice, measured)."""


@dataclass(frozen=True)
class LogMelConfig:
    """What a log-mel spectrogram is. The defaults are MSM-MAE's at 16 kHz."""

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
    """Reflect half a window at both ends, so that frame i is centred on sample i * hop_size; otherwise frame i starts there."""
    log_offset: float = FLOAT32_EPS
    """Added to the mel energy before the logarithm."""

    def __post_init__(self) -> None:
        if self.n_fft < 2 or self.n_fft % 2 or self.hop_size < 1 or self.n_mels < 1 or self.log_offset <= 0:
            raise ConfigError(
                f"a log-mel front end needs an even n_fft >= 2, hop_size >= 1, n_mels >= 1 and log_offset > 0; "
                f"got n_fft={self.n_fft}, hop_size={self.hop_size}, n_mels={self.n_mels}, log_offset={self.log_offset}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"f_min={self.f_min:g} and f_max={self.f_max:g} Hz must rise and stay within 0 and half the sample rate, "
                f"{self.sample_rate / 2:g} Hz"
            )


MSM_MAE_16K = LogMelConfig()
"""MSM-MAE, reference behaviour at 16 kHz: 25 ms windows every 10 ms."""

MSM_MAE_32K = LogMelConfig(sample_rate=32000, n_fft=800, hop_size=320, f_max=16000.0)
"""MSM-MAE, reference behaviour of the newer runtime at 32 kHz."""

MATPAC = LogMelConfig(center=False)
"""MATPAC, reference behaviour: as MSM-MAE at 16 kHz without padding at the ends."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of un-normalised spectrograms, over everything or band by band.

    Parameters
    ----------
    mean, std : tuple of float
        One value, or one for each mel band.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(f"statistics need as many means as deviations, got {len(self.mean)} and {len(self.std)}")

    def normalise(self, spec: Float[Tensor, "*batch F T"]) -> Float[Tensor, "*batch F T"]:
        """(spec - mean) / std, band-major; a std below `MIN_STD` counts as `MIN_STD`."""
        mean = torch.tensor(self.mean, dtype=spec.dtype, device=spec.device)[:, None]
        std = torch.tensor(self._floored(), dtype=spec.dtype, device=spec.device)[:, None]
        return (spec - mean) / std

    def normalise_frames(self, spec: Float32[np.ndarray, "*batch T F"]) -> Float32[np.ndarray, "*batch T F"]:
        """`normalise` for time-major arrays, as `LogMel.fast` makes them."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self._floored(), np.float32)
        return np.asarray((spec - mean) / std, np.float32)

    def _floored(self) -> tuple[float, ...]:
        return tuple(max(value, MIN_STD) for value in self.std)


@lru_cache(maxsize=8)
def mel_matrix(config: LogMelConfig) -> Float32[np.ndarray, "F K"]:
    """Weights of the K = n_fft/2 + 1 Fourier bins in each mel band: Slaney's scale and area normalisation, computed in float64.

    The scale is linear to 1000 Hz (200/3 Hz a mel) and logarithmic above (27 mels for a factor 6.4), from Slaney's Auditory Toolbox
    (1998). Triangle m rises from edge m to edge m+1 and falls to edge m+2, and is scaled by 2 / (edge m+2 - edge m).
    """
    step, knee, log_step = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < knee else float(knee / step + np.log(hertz / knee) / log_step)

    mels = np.linspace(to_mel(config.f_min), to_mel(config.f_max), config.n_mels + 2)
    edges = np.where(mels < knee / step, mels * step, knee * np.exp(log_step * (mels - knee / step)))
    bins = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    weights: NDArray[np.float32] = (np.maximum(0.0, np.minimum(rise, fall)) * area[:, None]).astype(np.float32)
    weights.setflags(write=False)
    return weights


class LogMel(nn.Module):
    """The front end as a module.

    A waveform too short for one window (or, centred, for the reflection) is continued with zeros first, so one sample is enough
    (our choice; the reference programs raise).

    Parameters
    ----------
    config : LogMelConfig

    Examples
    --------
    >>> LogMel(MSM_MAE_16K)(torch.zeros(1, 16000)).shape
    torch.Size([1, 80, 101])
    """

    window: Tensor
    mel: Tensor

    def __init__(self, config: LogMelConfig = MSM_MAE_16K) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_size = config.sample_rate, config.hop_size
        self._pad = config.n_fft // 2 if config.center else 0
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_matrix(config).copy()), persistent=False)
        self._scratch = _Scratch()

    def num_frames(self, num_samples: int) -> int:
        """Frames that ``num_samples`` samples give."""
        window = 0 if self.config.center else self.config.n_fft
        return 1 + max(0, num_samples - window) // self.hop_size

    def num_samples(self, frames: int) -> int:
        """The fewest samples that fill ``frames`` frames without the zeros a short waveform is continued with."""
        window = 1 if self.config.center and frames == 1 else 0 if self.config.center else self.config.n_fft
        return (frames - 1) * self.hop_size + window

    def frame_centre(self, frame: int) -> float:
        """Where the middle of a frame's window lies, in seconds."""
        first = 0.0 if self.config.center else self.config.n_fft / 2
        return (frame * self.hop_size + first) / self.sample_rate

    def forward(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B F T"]:
        """Un-normalised log-mel of a batch, float32 also under autocast, differentiable.

        Raises
        ------
        AudioError
            When there are no samples.
        """
        frames, wav = self.num_frames(_some(wav.shape[-1])), wav.float()
        with torch.autocast(wav.device.type, enabled=False):
            wav = F.pad(wav, (0, max(0, self._shortest() - wav.shape[-1])))
            if self._pad:
                wav = F.pad(wav[:, None], (self._pad, self._pad), mode="reflect")[:, 0]
            n_fft, hop = self.config.n_fft, self.hop_size
            spectrum = torch.stft(wav, n_fft, hop, window=self.window, center=False, return_complex=True)[..., :frames]
            parts = torch.view_as_real(spectrum).square()
            power = parts[..., 0] + parts[..., 1]  # (B, K, T); abs() of a complex tensor is three times slower
            return torch.log(self.mel @ power + self.config.log_offset)

    def fast(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, "T F"]:
        """Un-normalised log-mel of one clip on one CPU core, time-major. Threads may call it at the same time.

        Raises
        ------
        AudioError
            When there are no samples.
        """
        frames = self.num_frames(_some(len(wav)))
        wav = np.require(wav, np.float32, ["C", "W"])
        if len(wav) < self._shortest():
            wav = np.pad(wav, (0, self._shortest() - len(wav)))
        if self._pad:
            wav = np.concatenate([self._left(wav), wav, self._right(wav)])
        return self._transform(wav, frames)

    def stream(self, blocks: Iterable[Float32[np.ndarray, " s"]]) -> Iterator[Float32[np.ndarray, "t F"]]:
        """`fast` over the blocks laid end to end, piece by piece, in memory that does not grow with their number."""
        held, total, given = np.empty(0, np.float32), 0, 0
        for block in blocks:
            held, total = np.concatenate([held, np.asarray(block, np.float32)]), total + len(block)
            if given == 0 and total >= 2 * self.config.n_fft and len(held) == total:
                held = np.concatenate([self._left(held), held])
            ready = (len(held) - 2 * self.config.n_fft) // self.hop_size + 1  # what is held back is enough for the reflection at the end
            if ready > 0 and total >= 2 * self.config.n_fft:
                yield self._transform(held, ready)
                held, given = held[ready * self.hop_size :].copy(), given + ready
        if total < 2 * self.config.n_fft:
            yield self.fast(held)
        elif (left := self.num_frames(total) - given) > 0:
            yield self._transform(np.concatenate([held, self._right(held)]), left)

    def _shortest(self) -> int:
        """Samples below which a waveform is continued with zeros."""
        return self._pad + 1 if self.config.center else self.config.n_fft

    def _left(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " p"]:
        return wav[self._pad : 0 : -1] if self._pad else wav[:0]

    def _right(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, " p"]:
        return wav[-2 : -self._pad - 2 : -1] if self._pad else wav[:0]

    @torch.no_grad()
    def _transform(self, padded: Float32[np.ndarray, " S"], frames: int) -> Float32[np.ndarray, "T F"]:
        """Log-mel of the first ``frames`` windows of a padded waveform, in blocks that stay in cache, in buffers used again."""
        window, bands, windowed = self._scratch.of(self.config)
        views = torch.from_numpy(padded).unfold(0, self.config.n_fft, self.hop_size)
        out = np.empty((frames, self.config.n_mels), np.float32)
        for first in range(0, frames, BLOCK_FRAMES):
            n = min(BLOCK_FRAMES, frames - first)
            torch.mul(views[first : first + n], window, out=windowed[:n])
            parts = torch.view_as_real(torch.fft.rfft(windowed[:n])).numpy()  # a new array: writing into an old one is slower
            np.multiply(parts, parts, out=parts)
            power = parts[..., 0] + parts[..., 1]
            for bins, mels, weights in bands:
                np.matmul(power[:, bins], weights, out=out[first : first + n, mels])
        out += np.float32(self.config.log_offset)
        return np.log(out, out=out)


class _Scratch(threading.local):
    """Work space of `LogMel.fast`, one set in each thread; copies and pickles of a front end start without."""

    def __init__(self) -> None:
        self.held: tuple[Tensor, list[_Band], Tensor] | None = None

    def of(self, config: LogMelConfig) -> tuple[Tensor, list[_Band], Tensor]:
        """Window (n_fft,), mel weights in groups of bands, and room for the windowed frames of one block."""
        if self.held is None:
            self.held = (torch.hann_window(config.n_fft), _bands(config), torch.empty(BLOCK_FRAMES, config.n_fft))
        return self.held

    def __reduce__(self) -> tuple[Any, ...]:
        return _Scratch, ()


_Band = tuple[slice, slice, NDArray[np.float32]]


def _bands(config: LogMelConfig) -> list[_Band]:
    """The mel matrix as five blocks (bins, mels, weights): most of it is zero, and the blocks leave out two thirds."""
    matrix, bands = mel_matrix(config), []
    for group in np.array_split(np.arange(config.n_mels), min(5, config.n_mels)):
        mels = slice(int(group[0]), int(group[-1]) + 1)
        used = np.flatnonzero(matrix[mels].any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        bands.append((bins, mels, np.ascontiguousarray(matrix[mels, bins].T)))
    return bands


def _some(num_samples: int) -> int:
    if num_samples < 1:
        raise AudioError("a waveform without samples has no spectrogram; leave it out")
    return num_samples
