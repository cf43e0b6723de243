"""What every frozen teacher is: sound in, a map over frequency and time out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.teachers.align import FeatureMapAxes


class FrozenTeacher(nn.Module, ABC):
    """A model that is only listened to: evaluation mode, no gradients, never part of what is saved.

    Attributes
    ----------
    name : str
        What it is, in words a user reads.
    fingerprint : str
        Hash of its weights and of how its output is made; caches are kept under it.
    sample_rate : int
        Samples a second it takes.
    dim : int
        C, channels of its output.
    """

    name: str
    fingerprint: str
    sample_rate: int
    dim: int

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode, whatever is asked."""
        super().train(False)
        return self

    def freeze(self) -> FrozenTeacher:
        """Switch off dropout and gradients; the last thing a constructor does."""
        self.eval().requires_grad_(False)
        return self

    @abstractmethod
    def axes(self, samples: int) -> FeatureMapAxes:
        """Where rows and columns of the map lie for a sound of ``samples`` samples."""

    @abstractmethod
    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """The map of a batch of sounds at `sample_rate`; lowest frequencies in row 0, time from left to right."""

    @torch.no_grad()
    def forward(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """`listen` in float32, without gradients."""
        with torch.autocast(wav.device.type, enabled=False):
            return self.extract(wav.float()).float()


def disable_hf_progress() -> None:
    """Keep transformers from drawing progress of its own while it reads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
