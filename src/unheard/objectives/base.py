"""The contract between a masked pass, a batch and an objective.

A batch may be split over processes and, within one, into parts. An objective divides by sums over the whole batch
(`Objective.totals`). The losses of all parts therefore add up to the loss of the batch, and their gradients to its
gradient.

A pass exchanges nothing with other processes, so that it compiles into one graph. What needs the other processes is
computed after it: diagnostics and statistics in `Objective.after_pass`, comparisons of windows in
`Objective.loss_of_rows`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.objectives.teacher_schedules import TrainingProgress

Totals = dict[str, Tensor]
"""Sums over a batch, by name."""


@dataclass
class Batch:
    """Input of one training step. Every tensor is on the training device.

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
        Start of the crop in its clip.
    noise : Float[Tensor, "B numbers"]
        Uniform numbers in [0, 1) from which the masks of the window are computed: a function of seed, epoch and
        position only.
    wav : Float[Tensor, "B S"], optional
        The waveform of each crop, padded with zeros; for recipes that need it.
    targets : tuple of Float[Tensor, "B N C"], optional
        The features of each patch of every frozen teacher, in the order of the student's tokens.
    labels : Float[Tensor, "B L"], optional
        1 for each class of the crop.
    has_labels : Bool[Tensor, "B"], optional
        Whether the crop has labels.
    text : Float[Tensor, "B W"], optional
        The text encoder's vector of each crop's caption.
    captions : Int[Tensor, "B"], optional
        Index of the caption, equal for equal captions; -1 without one.
    previous : Float[Tensor, "B F T"], optional
        The window before each window in the batch of all processes; for recipes that mix windows.
    previous_frames : Int[Tensor, "B"], optional
        Its real frames.
    regions : Float[Tensor, "B 2"], optional
        Uniform numbers in [0, 1), equal in all rows, from which the regions without mixture are computed.
    """

    spec: Float[Tensor, "windows F T"]
    valid: Bool[Tensor, "B N"]
    clips: Int[Tensor, " B"]
    frames: Int[Tensor, " B"]
    start_seconds: Float[Tensor, " B"]
    noise: Float[Tensor, "B numbers"]
    wav: Float[Tensor, "windows S"] | None = None
    targets: tuple[Float[Tensor, "B N _"], ...] | None = None
    labels: Float[Tensor, "B L"] | None = None
    has_labels: Bool[Tensor, " B"] | None = None
    text: Float[Tensor, "B W"] | None = None
    captions: Int[Tensor, " B"] | None = None
    previous: Float[Tensor, "windows F T"] | None = None
    previous_frames: Int[Tensor, " B"] | None = None
    regions: Float[Tensor, "B 2"] | None = None

    def for_views(self, mask: Mask) -> Batch:
        """Return the batch with a row for each view of a mask, as objectives read it; spectrograms and waveforms are
        not repeated.
        """
        views = mask.keep.shape[0] // self.valid.shape[0]
        if views == 1:
            return self

        def repeated(values: Any) -> Any:
            if isinstance(values, tuple):
                return tuple(repeated(each) for each in values)
            return None if values is None else values.repeat_interleave(views, dim=0)

        rows = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("spec", "wav")}
        return replace(self, **{name: repeated(values) for name, values in rows.items()})


class Objective(nn.Module, ABC):
    """Base class of losses: reads a masked pass and returns one scalar. Optional hooks run after a pass, and once per
    optimiser step.

    Attributes
    ----------
    saved : bool
        Whether its weights are saved in a model folder; heads that only training needs are not.
    needs_decoder : bool
        Whether it reads the output of the decoder or the predictor.
    layers : tuple of int
        Blocks of the encoder, counted from 1, whose outputs it reads (`MaskedPass.layers`).
    """

    saved = True
    needs_decoder = True
    layers: tuple[int, ...] = ()

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return the sums over a batch that `loss` needs of the whole batch, known before any pass.

        The sums of several parts add up to those of the batch. The base class returns "hidden", the number of hidden
        patches that are not padding.
        """
        return {"hidden": hidden_weights(batch, mask).sum()}

    @abstractmethod
    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the contribution of a part of a batch to the loss: a sum over the part, divided by the totals of the
        batch. It may add to ``out.diagnostics``, ``out.terms`` and ``out.sums``.
        """

    def rows(self, out: MaskedPass, batch: Batch) -> Totals:
        """Return tensors with a row for each window that the loss compares between all processes, by name.

        If there are any, training computes `loss_of_rows` from them instead of `loss`. The base class returns none.
        """
        return {}

    def loss_of_rows(self, own: Totals, everyone: Totals, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss of the windows of this process.

        Parameters
        ----------
        own, everyone : dict of Tensor
            `rows` of this process, and of all processes one after the other; both have gradients.
        """
        raise NotImplementedError

    def after_pass(self, sums: Totals) -> dict[str, Tensor]:
        """Return diagnostics from the sums over all processes of what this objective added to `MaskedPass.sums`, and
        store what `after_step` needs of them. The base class does nothing.
        """
        return {}

    def forward(self, out: MaskedPass, batch: Batch, totals: Totals | None = None) -> Float[Tensor, ""]:
        """Return `loss` and add the diagnostics to the pass, for one process; without totals ``batch`` is a whole
        batch.
        """
        out.sums = {}
        value = self.loss(out, batch, self.totals(batch, out.mask) if totals is None else totals)
        out.diagnostics |= self.after_pass(out.sums)
        return value

    def before_step(self, when: TrainingProgress) -> None:
        """Update state between the gradients and each optimiser step; ``when`` counts the steps done before it."""

    def after_step(self, when: TrainingProgress) -> None:
        """Update state after each optimiser step; ``when`` counts it."""

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        """Return values that depend on the progress alone, such as temperatures, for the metrics log."""
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
    """Return the contribution of these values to a weighted mean; 0 when nothing in the whole batch has a weight.

    Parameters
    ----------
    total : Float[Tensor, ""]
        Number of values of the whole batch with weight 1.
    """
    return (values * weights).sum() / total.clamp(min=1)
