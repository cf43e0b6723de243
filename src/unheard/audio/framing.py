"""The part that all front ends share: framing, Fourier transform, power in mel bands, logarithm.

    y[n] = x[n + 1] - emphasis x[n]         (y = x where the front end has no emphasis)
    spec[m, t] = compress( sum_k mel[m, k] |rfft(apply_window(y[t hop - pad ..][:frame_size]), n_fft)[k]|^2 )

A front end defines how one frame is windowed and how bands are compressed. This module computes the rest in four ways:

- `Frontend.forward`: batches of tensors on any device.
- `Frontend.spectrogram_cpu`: one clip on one CPU core.
- `Frontend.stream`: a signal of any length in constant memory.
- `Frontend.segment` with `Frontend.spectrograms_from_segments`: windows of longer clips, equal to those of the whole
clip's spectrogram.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.audio.frames import BLOCK_FRAMES, FrameSpec, FrontendWorkspace, require_samples

INT16_SCALE = 2.0**15
"""int16 samples are divided by this, as libsndfile does."""


class Frontend(nn.Module, ABC):
    """A waveform-to-spectrogram transform.

    A waveform that is too short for one frame (or for the reflection) is padded with zeros first, so one sample is
    enough (our choice; the reference programs raise).

    Parameters
    ----------
    framing : FrameSpec
    window : Tensor, (frame_size,)
    mel : array, (F, n_fft / 2 + 1)
        Weights of the Fourier bins in each band.

    Attributes
    ----------
    jitter : Callable or None
        Maps uniform numbers (B, 2) to one mel matrix for each window of a batch (B, F, K), for front ends that vary
        their bands in training.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, framing: FrameSpec, window: Tensor, mel: Float32[np.ndarray, "F K"]) -> None:
        super().__init__()
        self.framing, self.sample_rate, self.hop_size = framing, framing.sample_rate, framing.hop_size
        self.n_mels = len(mel)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel.copy()), persistent=False)
        self.jitter: Callable[[Tensor], Tensor] | None = None
        self._scratch = FrontendWorkspace()

    @abstractmethod
    def apply_window(self, frames: Float[Tensor, "*n W"], out: Tensor | None = None) -> Float[Tensor, "*n W"]:
        """Apply the window, and what else the front end does to a frame before the Fourier transform."""

    @abstractmethod
    def compress(self, bands: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Map power in mel bands to the values of the spectrogram."""

    @abstractmethod
    def mel_centres(self) -> Float64[np.ndarray, " F"]:
        """Return the peak frequency of each band in Hz."""

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of ``num_samples`` samples."""
        return self.framing.num_frames(num_samples)

    def num_samples(self, frames: int) -> int:
        """Return the smallest number of samples that fills ``frames`` frames without zero padding."""
        window = 0 if self.framing.pad else self.framing.frame_size
        return max(1, (frames - 1) * self.hop_size + window + self.framing.lookahead)

    def frame_centre(self, frame: int) -> float:
        """Return the centre of a frame in seconds."""
        first = 0.0 if self.framing.pad else self.framing.frame_size / 2
        return (frame * self.hop_size + first) / self.sample_rate

    def forward(
        self, wav: Float[Tensor, "B S"], jitter_noise: Float[Tensor, "B 2"] | None = None
    ) -> Float[Tensor, "B F T"]:
        """Return un-normalised spectrograms of a batch, float32 also under autocast, differentiable.

        Parameters
        ----------
        jitter_noise : Float[Tensor, "B 2"], optional
            Uniform numbers in [0, 1) for a front end with `jitter`: they vary the bands of each waveform.

        Raises
        ------
        AudioError
            When there are no samples.
        """
        frames, wav = self.num_frames(require_samples(wav.shape[-1])), wav.float()
        with torch.autocast(wav.device.type, enabled=False):
            wav = F.pad(wav, (0, max(0, self.framing.min_samples - wav.shape[-1])))
            return self._spectrogram(self._power(self.cut(wav)[:, :frames]), jitter_noise)

    def cut(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B T W"]:
        """Apply emphasis and reflection to waveforms of at least `FrameSpec.min_samples`; return all their frames."""
        framing = self.framing
        if framing.lookahead:
            wav = wav[:, 1:] - framing.emphasis * wav[:, :-1]
        if framing.pad:
            wav = F.pad(wav[:, None], (framing.pad, framing.pad), mode="reflect")[:, 0]
        return wav.unfold(1, framing.frame_size, self.hop_size)

    def spectrograms_from_segments(
        self, segments: Float[Tensor, " S"], rows: Int[Tensor, "B T"], jitter_noise: Float[Tensor, "B 2"] | None = None
    ) -> Float[Tensor, "B F T"]:
        """Return spectrograms of windows from concatenated segments, on any device.

        Parameters
        ----------
        segments : Float[Tensor, "S"]
            The outputs of `segment`, concatenated.
        rows : Int[Tensor, "B T"]
            Index of each frame in ``segments``: the first frame of a segment is the total length of the segments before
            it, divided by `hop_size`.
        jitter_noise : Float[Tensor, "B 2"], optional
            As in `forward`.
        """
        with torch.autocast(segments.device.type, enabled=False):
            views = segments.unfold(0, self.framing.frame_size, self.hop_size)
            size = max(1, 2 * BLOCK_FRAMES // rows.shape[1]) if segments.device.type == "cpu" else rows.shape[0]
            parts = [slice(first, first + size) for first in range(0, rows.shape[0], size)]
            specs = [
                self._spectrogram(self._power(views[rows[part]]), None if jitter_noise is None else jitter_noise[part])
                for part in parts
            ]
            return torch.cat(specs)

    def segment(self, clip: Shaped[np.ndarray, " S"], first: int, frames: int) -> Float32[np.ndarray, " s"]:
        """Return the samples of ``frames`` frames of a clip from frame ``first`` on.

        Emphasis and reflection are those of the whole clip. The length is a whole number of hops, and the first frame
        starts at sample 0.

        Parameters
        ----------
        clip : ndarray, (S,)
            int16 or float32 samples of the whole clip, possibly memory-mapped: only the needed samples are read.
        """
        framing = self.framing
        length = max(len(clip), framing.min_samples) - framing.lookahead
        begin, size = first * self.hop_size - framing.pad, (frames - 1) * self.hop_size + framing.row
        end = begin + (frames - 1) * self.hop_size + framing.frame_size
        out = np.zeros(size, np.float32)
        if begin >= 0 and end <= length:
            out[: end - begin] = framing.emphasised(_samples(clip, begin, end + framing.lookahead))
            return out
        index = np.abs(np.arange(begin, end))
        index = length - 1 - np.abs(length - 1 - index)
        low, high = int(index.min()), int(index.max()) + 1
        out[: end - begin] = framing.emphasised(_samples(clip, low, high + framing.lookahead))[index - low]
        return out

    def spectrogram_cpu(self, wav: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, "T F"]:
        """Return the un-normalised spectrogram of one clip, computed on one CPU core, time-major. Thread-safe.

        Raises
        ------
        AudioError
            When there are no samples.
        """
        frames = self.num_frames(require_samples(len(wav)))
        padded = self.framing.padded(np.require(wav, np.float32, ["C", "W"]))
        return self._transform(padded, frames)

    def stream(self, blocks: Iterable[Float32[np.ndarray, " s"]]) -> Iterator[Float32[np.ndarray, "t F"]]:
        """Yield the `spectrogram_cpu` of the concatenated blocks in pieces, in constant memory."""
        for padded, frames in self.framing.padded_pieces(blocks):
            yield self._transform(padded, frames)

    def _power(self, frames: Float[Tensor, "*n W"]) -> Float[Tensor, "*n K"]:
        """Return power spectra of frames."""
        parts = torch.view_as_real(torch.fft.rfft(self.apply_window(frames), self.framing.n_fft)).square()
        return parts[..., 0] + parts[..., 1]  # abs() of a complex tensor is three times slower

    def _spectrogram(
        self, power: Float[Tensor, "B T K"], jitter_noise: Float[Tensor, "B 2"] | None
    ) -> Float[Tensor, "B F T"]:
        mel = self.mel if jitter_noise is None or self.jitter is None else self.jitter(jitter_noise)
        return self.compress(mel @ power.transpose(1, 2))

    @torch.no_grad()
    def _transform(self, padded: Float32[np.ndarray, " S"], frames: int) -> Float32[np.ndarray, "T F"]:
        """Return the first ``frames`` frames of a padded waveform, in blocks that fit the cache, in a reused buffer."""
        size, (bands, shaped) = self.framing.frame_size, self._scratch.get(self.mel, self.framing.n_fft)
        views = torch.from_numpy(padded).unfold(0, size, self.hop_size)
        out = np.empty((frames, self.n_mels), np.float32)
        for first in range(0, frames, BLOCK_FRAMES):
            n = min(BLOCK_FRAMES, frames - first)
            self.apply_window(views[first : first + n], out=shaped[:n, :size])
            parts = torch.view_as_real(
                torch.fft.rfft(shaped[:n])
            ).numpy()  # a new array: writing into an old one is slower
            np.multiply(parts, parts, out=parts)
            power = parts[..., 0] + parts[..., 1]
            for bins, mels, weights in bands:
                np.matmul(power[:, bins], weights, out=out[first : first + n, mels])
        return np.asarray(self.compress(torch.from_numpy(out)).numpy())


def _samples(clip: Shaped[np.ndarray, " S"], first: int, end: int) -> Float32[np.ndarray, " s"]:
    """Return samples as floats; 0 after the end."""
    taken = clip[first:end].astype(np.float32)
    if clip.dtype == np.int16:
        taken *= np.float32(1 / INT16_SCALE)
    return np.pad(taken, (0, end - first - len(taken))) if len(taken) < end - first else taken
