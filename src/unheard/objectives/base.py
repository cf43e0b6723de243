"""The contract between a masked pass, a batch and an objective.

A batch may be split over processes and, within one, into parts. An objective divides by sums over the whole batch
(`Objective.totals`), so that the losses of all parts add up to the loss of the batch, and their gradients to its
gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.objectives.schedules import TrainingProgress

Totals = dict[str, Tensor]
"""Sums over a batch, by name."""


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
        Uniform numbers in [0, 1) that decide the mask: a function of seed, epoch and position in it, whoever draws
        them.
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
    has_labels: Bool[Tensor, " B"] | None = None
    text: Float[Tensor, "B W"] | None = None
    captions: Int[Tensor, " B"] | None = None


class Objective(nn.Module, ABC):
    """Reads a masked pass, returns one scalar. Optional hooks run once per optimiser step.

    Attributes
    ----------
    saved : bool
        Whether its weights belong in a model folder; heads that only training has a use for do not.
    needs_decoder : bool
        Whether it reads what the decoder or the predictor made.
    """

    saved = True
    needs_decoder = True

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return the sums over a batch that `loss` needs of the whole batch, known before any pass.

        The sums of several parts add up to those of the batch. Here: "hidden", the number of hidden patches that are
        not padding.
        """
        return {"hidden": hidden_weights(batch, mask).sum()}

    @abstractmethod
    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return what a part of a batch adds to the loss: a sum over the part, divided by the totals of the whole
        batch.
        """

    def forward(self, out: MaskedPass, batch: Batch, totals: Totals | None = None) -> Float[Tensor, ""]:
        """Return `loss`; without totals ``batch`` is a whole batch."""
        return self.loss(out, batch, self.totals(batch, out.mask) if totals is None else totals)

    def before_step(self, when: TrainingProgress) -> None:
        """Called between the gradients and each optimiser step; ``when`` counts the steps done before it."""

    def after_step(self, when: TrainingProgress) -> None:
        """Called after each optimiser step; ``when`` counts it."""

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        """Values that follow from the moment alone, such as temperatures, for the journal."""
        return {}


def valid_at(batch: Batch, index: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """Return 1 for each patch at ``index``, 0 for those that are padding."""
    return torch.gather(batch.valid, 1, index).float()


def hidden_weights(batch: Batch, mask: Mask) -> Float[Tensor, "B M"]:
    """Return 1 for each hidden patch, 0 for those that are padding."""
    return valid_at(batch, mask.hide)


def masked_mean(
    values: Float[Tensor, "*n"], weights: Float[Tensor, "*n"], total: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return the part of a weighted mean that these values make up; 0 when nothing in the whole batch has a weight.

    Parameters
    ----------
    total : Float[Tensor, ""]
        How many of the whole batch have weight 1.
    """
    return (values * weights).sum() / total.clamp(min=1)
