"""A whole model as one module of plain tensor operations: waveforms in, frames, scene vectors and class scores out.

    wav -> spec -> normalise -> pad to whole windows, fold them into the batch -> encoder, without attention to padding
        -> unfold, cut to the real columns = frames -> mean over real frames = scene -> classifier = scores

The numbers are those of `Model.embed`. No shape depends on values, so that `torch.export` traces it for any batch and
length.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.audio.framing import Frontend
from unheard.model.classifier import Classifier
from unheard.model.encoder import Encoder


class Outputs(NamedTuple):
    """Outputs of a `WaveformModel`."""

    frames: Float[Tensor, "B T D"]
    """One vector for each time step."""
    times_ms: Float[Tensor, " T"]
    """Centre of each time step in milliseconds."""
    scene: Float[Tensor, "B D"]
    """One vector for each waveform."""
    scores: Float[Tensor, "B C"] | None = None
    """Scores of the classes of a fine-tuned model."""


class FourierFrontend(nn.Module):
    """A front end whose Fourier transform is a product with a constant matrix, which every runtime computes.

    Parameters
    ----------
    frontend : Frontend
        Defines frames, window, bands and compression; they are reused as they are.
    mean, std : tuple of float
        Statistics of the normalisation, global or for each band.
    """

    def __init__(self, frontend: Frontend, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.frontend = frontend
        size, bins = frontend.framing.frame_size, frontend.framing.n_fft // 2 + 1
        turns = np.outer(np.arange(size), np.arange(bins)) % frontend.framing.n_fft / frontend.framing.n_fft
        fourier = np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)], axis=1)
        self.register_buffer("fourier", torch.from_numpy(fourier.astype(np.float32)))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    fourier: Tensor
    mean: Tensor
    std: Tensor

    def num_frames(self, samples: int) -> int:
        """Return the number of frames of a waveform, also of a symbolic length."""
        framing = self.frontend.framing
        whole = framing.lookahead + (0 if framing.pad else framing.frame_size)
        return 1 + (_largest(samples, whole) - whole) // framing.hop_size

    def forward(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B T F"]:
        """Return normalised spectrograms, time-major."""
        samples = wav.shape[1]
        wav = F.pad(wav, (0, _largest(self.frontend.framing.min_samples - samples, 0)))
        frames = self.frontend.cut(wav)[:, : self.num_frames(samples)]
        parts = self.frontend.apply_window(frames) @ self.fourier
        real, imaginary = parts.chunk(2, dim=-1)
        power = real.square() + imaginary.square()
        return (self.frontend.compress(power @ self.frontend.mel.T) - self.mean) / self.std


class WaveformModel(nn.Module):
    """Front end, windows, encoder, pooling and classifier of a model.

    Parameters
    ----------
    frontend : FourierFrontend
    encoder : Encoder
    classifier : Classifier, optional
        That of a fine-tuned model.
    """

    def __init__(self, frontend: FourierFrontend, encoder: Encoder, classifier: Classifier | None = None) -> None:
        super().__init__()
        self.frontend, self.encoder, self.classifier = frontend, encoder, classifier
        self.register_buffer("columns", encoder.grid.columns(), persistent=False)

    columns: Tensor

    def forward(self, wav: Float[Tensor, "B S"]) -> Outputs:
        """Embed waveforms of one length at the sample rate of the front end."""
        frames, scene, cls = self.embed(wav)
        times = self._times(frames.shape[1], wav)
        if self.classifier is None:
            return Outputs(frames, times, scene)
        return Outputs(frames, times, scene, self.classifier.scores(self.logits(scene, cls)))

    def embed(
        self, wav: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D"], Float[Tensor, "B E"] | None]:
        """Return frames, scene vectors, and the mean of the windows' CLS outputs or None."""
        batch, grid = wav.shape[0], self.encoder.grid
        total = self.frontend.num_frames(wav.shape[1])
        windows = (total + grid.frames - 1) // grid.frames
        steps = (total + grid.patch_size[1] - 1) // grid.patch_size[1]
        spec = self.frontend(wav).to(self.encoder.positions.dtype)  # (B, T, F)
        spec = F.pad(spec, (0, 0, 0, windows * grid.frames - total))
        folded = spec.reshape(batch * windows, grid.frames, grid.n_mels).transpose(1, 2)
        starts = torch.arange(windows, device=wav.device)[:, None] * grid.frames + self.columns * grid.patch_size[1]
        real = (starts < total).expand(batch, -1, -1).reshape(batch * windows, grid.num_patches)
        tokens, cls = self.encoder.masked(grid.patchify(folded), real)
        frames = grid.to_timesteps(tokens).reshape(batch, windows * grid.time, -1)[:, :steps]
        scene = _mean(frames, total, grid.patch_size[1])
        return frames, scene, None if cls is None else _mean(cls.reshape(batch, windows, -1), total, grid.frames)

    def logits(self, scene: Float[Tensor, "B D"], cls: Float[Tensor, "B E"] | None) -> Float[Tensor, "B C"]:
        """Return the logits of the classes from the outputs of `embed`."""
        assert self.classifier is not None
        tokens = scene.reshape(scene.shape[0], self.encoder.grid.freq, -1)
        out: Tensor = self.classifier(self.classifier.pool(tokens, cls))
        return out

    def _times(self, steps: int, wav: Tensor) -> Float[Tensor, " T"]:
        width, front = self.encoder.grid.patch_size[1], self.frontend.frontend
        first = 1000 * (front.frame_centre(0) + (width - 1) / 2 * front.hop_size / front.sample_rate)
        step = 1000 * width * front.hop_size / front.sample_rate
        return torch.arange(steps, device=wav.device).float() * step + first


def waveform_model(
    frontend: Frontend, statistics: tuple[tuple[float, ...], tuple[float, ...]], encoder: Encoder,
    classifier: Classifier | None = None,
) -> WaveformModel:  # fmt: skip
    """Build the module from copies of the parts of a model, on the CPU.

    Parameters
    ----------
    statistics : mean and standard deviation
        As they divide: see `Statistics.divisors`.
    """
    parts = (FourierFrontend(copy.deepcopy(frontend), *statistics), copy.deepcopy(encoder), copy.deepcopy(classifier))
    return WaveformModel(*parts).cpu().eval().requires_grad_(False)


def _largest(first: int, second: int) -> int:
    """Return the larger of two whole numbers, which may be symbolic."""
    return cast(int, torch.sym_max(first, second))  # type: ignore[no-untyped-call]


def _mean(values: Float[Tensor, "B n D"], total: int, width: int) -> Float[Tensor, "B D"]:
    """Return the mean over time steps, weighted by the real frames among the ``width`` frames of each."""
    begins = torch.arange(values.shape[1], device=values.device) * width
    weights = (total - begins).clamp(max=width).to(values.dtype)
    mean: Tensor = (weights @ values) / total
    return mean
