"""The contract between a masked pass, a batch and an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.model.masked_model import MaskedPass


@dataclass
class Batch:
    """What one step of training reads. Every tensor is on the training device.

    Parameters
    ----------
    spec : Float[Tensor, "B F T"]
        Normalised spectrogram crops; padding is 0.
    valid : Bool[Tensor, "B N"]
        False on patches that hold padding only. Objectives weight by it, so shapes stay static.
    clips : Int[Tensor, "B"]
        Index of each crop's clip in the corpus.
    frames : Int[Tensor, "B"]
        Real frames in each crop.
    start_seconds : Float[Tensor, "B"]
        Where the crop starts in its clip.
    """

    spec: Float[Tensor, "B F T"]
    valid: Bool[Tensor, "B N"]
    clips: Int[Tensor, " B"]
    frames: Int[Tensor, " B"]
    start_seconds: Float[Tensor, " B"]


class Objective(nn.Module, ABC):
    """Reads a masked pass, returns one scalar. Optional hooks run once per optimiser step."""

    @abstractmethod
    def forward(self, out: MaskedPass, batch: Batch) -> Float[Tensor, ""]:
        """The loss, a mean over the valid patches it looks at."""

    def before_step(self, progress: float) -> None:
        """Called before each optimiser step; ``progress`` is the share of the run that is done, in [0, 1]."""

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step."""


def weighted_mean(values: Float[Tensor, "B M"], weights: Bool[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Mean of ``values`` where ``weights`` is true; 0 when nothing is."""
    kept = weights.to(values.dtype)
    return (values * kept).sum() / kept.sum().clamp(min=1)


def gather_valid(valid: Bool[Tensor, "B N"], index: Int[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
    """``valid`` at the tokens ``index``."""
    return torch.gather(valid, 1, index)
