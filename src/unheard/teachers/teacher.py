"""Base class of frozen teachers: a waveform in, a map over frequency and time out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.teachers.align import FeatureMapAxes


class FrozenTeacher(nn.Module, ABC):
    """A frozen model: evaluation mode, no gradients, never part of a checkpoint.

    Attributes
    ----------
    name : str
        Description for the user.
    fingerprint : str
        Hash of its weights and of the settings of its output; caches are stored under it.
    sample_rate : int
        Sample rate of its input, in Hz.
    dim : int
        C, channels of its output.
    """

    name: str
    fingerprint: str
    sample_rate: int
    dim: int

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode, whatever the argument."""
        super().train(False)
        return self

    def freeze(self) -> FrozenTeacher:
        """Switch off dropout and gradients; constructors call it last."""
        self.eval().requires_grad_(False)
        return self

    @abstractmethod
    def axes(self, samples: int) -> FeatureMapAxes:
        """Return the positions of rows and columns of the map for a waveform of ``samples`` samples."""

    @abstractmethod
    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the map of a batch of waveforms at `sample_rate`; row 0 has the lowest frequencies, columns are in
        time order.
        """

    @torch.no_grad()
    def forward(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Run `extract` in float32, without gradients."""
        with torch.autocast(wav.device.type, enabled=False):
            return self.extract(wav.float()).float()


def disable_hf_progress() -> None:
    """Keep transformers from showing a progress bar of its own while it reads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
