"""The contract between a masked pass, a batch and an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.model.masked_model import MaskedPass
from unheard.objectives.schedules import Moment


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
    noise : Float[Tensor, "B N"]
        Uniform numbers in [0, 1) that decide the mask: a function of seed, epoch and position in it, whoever draws them.
    wav : Float[Tensor, "B S"], optional
        The sound of each crop, padded with zeros; for recipes that need it.
    targets : Float[Tensor, "B N C"], optional
        What a frozen teacher says of each patch, in the order of the student's tokens.
    labels : Float[Tensor, "B L"], optional
        1 for each class that is heard.
    labelled : Bool[Tensor, "B"], optional
        Whether the labels of a crop are known.
    text : Float[Tensor, "B W"], optional
        The text encoder's vector of each crop's caption.
    captions : Int[Tensor, "B"], optional
        Number of the caption, equal where captions are; -1 without one.
    """

    spec: Float[Tensor, "B F T"]
    valid: Bool[Tensor, "B N"]
    clips: Int[Tensor, " B"]
    frames: Int[Tensor, " B"]
    start_seconds: Float[Tensor, " B"]
    noise: Float[Tensor, "B N"]
    wav: Float[Tensor, "B S"] | None = None
    targets: Float[Tensor, "B N C"] | None = None
    labels: Float[Tensor, "B L"] | None = None
    labelled: Bool[Tensor, " B"] | None = None
    text: Float[Tensor, "B W"] | None = None
    captions: Int[Tensor, " B"] | None = None


class Objective(nn.Module, ABC):
    """Reads a masked pass, returns one scalar. Optional hooks run once per optimiser step.

    Attributes
    ----------
    lasting : bool
        Whether its weights belong in a model folder; heads that only training has a use for do not.
    decodes : bool
        Whether it reads what the decoder or the predictor made.
    """

    lasting = True
    decodes = True

    @abstractmethod
    def forward(self, out: MaskedPass, batch: Batch) -> Float[Tensor, ""]:
        """The loss, a mean over the valid patches it looks at."""

    def before_step(self, when: Moment) -> None:
        """Called between the gradients and each optimiser step; ``when`` counts the steps done before it."""

    def after_step(self, when: Moment) -> None:
        """Called after each optimiser step; ``when`` counts it."""

    def schedules(self, when: Moment) -> dict[str, float]:
        """Values that follow from the moment alone, such as temperatures, for the journal."""
        return {}


def hidden_weights(batch: Batch, out: MaskedPass) -> Float[Tensor, "B M"]:
    """1 for each hidden patch, 0 for those that are padding."""
    return torch.gather(batch.valid, 1, out.mask.hide).float()


def valid_mean(values: Float[Tensor, "B M"], batch: Batch, out: MaskedPass, index: Int[Tensor, "B M"] | None = None) -> Float[Tensor, ""]:
    """Mean of a value of each patch at ``index`` (each hidden one when left out) over those that are not padding; 0 when all are.

    The count is averaged over processes, so that averaging the gradients of all processes gives the mean over all of them.
    """
    weights = torch.gather(batch.valid, 1, out.mask.hide if index is None else index).to(values.dtype)
    return (values * weights).sum() / out.mean_over_processes(weights.sum()).clamp(min=1)
