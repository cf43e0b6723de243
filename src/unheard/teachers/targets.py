"""Compute a teacher's features of each patch from the waveforms of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from unheard.audio.resample import resample
from unheard.errors import ConfigError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.teachers.align import alignment_matrix
from unheard.teachers.cache import TargetCache
from unheard.teachers.teacher import FrozenTeacher


class Targets:
    """Set ``batch.targets``: resample, run the teacher (or read its cache), round to float16, align to the student's
    patches.

    Parameters
    ----------
    teacher : FrozenTeacher
        On the device batches are on.
    grid : Grid
        The student's patches.
    bands : array, (F,)
        Centres of the student's mel bands in Hz.
    frames : array, (T,)
        Centres of the student's frames in seconds, from the first sample of ``batch.wav``.
    sample_rate : int
        Of ``batch.wav``.
    cache : TargetCache, optional
        For corpora of which every clip fits in one window.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        grid: Grid,
        bands: ArrayLike,
        frames: ArrayLike,
        sample_rate: int,
        cache: TargetCache | None = None,
    ) -> None:
        self.teacher, self.grid, self.sample_rate, self.cache = teacher, grid, sample_rate, cache
        self._bands, self._frames = bands, frames
        self._matrices: dict[tuple[int, torch.device], Float[Tensor, "N L"]] = {}

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its targets.

        Raises
        ------
        ConfigError
            When it holds no waveform.
        """
        if batch.wav is None:
            raise ConfigError(
                "a teacher needs waveforms, and these batches hold spectrograms only; pack the corpus with --store wav"
            )
        features = self._maps(batch, batch.wav).flatten(2).transpose(1, 2).float()  # (B, L, C)
        samples = -(-batch.wav.shape[1] * self.teacher.sample_rate // self.sample_rate)
        return replace(batch, targets=self._matrix(samples, features.device) @ features)

    def _maps(self, batch: Batch, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the teacher's maps, rounded to float16 whether they are computed now or cached."""
        clips = batch.clips.cpu().numpy()
        if self.cache is not None and self.cache.all_cached(clips):
            return self.cache.read(clips).to(wav.device)
        maps: Tensor = self.teacher(resample(wav, self.sample_rate, self.teacher.sample_rate)).to(torch.float16)
        if self.cache is not None:
            self.cache.write(clips, maps)
        return maps

    def _matrix(self, samples: int, device: torch.device) -> Float[Tensor, "N L"]:
        key = (samples, device)
        if key not in self._matrices:
            self._matrices[key] = alignment_matrix(self.grid, self._bands, self._frames, self.teacher.axes(samples)).to(
                device
            )
        return self._matrices[key]
