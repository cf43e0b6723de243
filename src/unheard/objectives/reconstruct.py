"""Reconstruct the hidden patches: the objective of MSM-MAE, MaskSpec and AudioMAE."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from unheard.config import Weight
from unheard.model.encoder import take
from unheard.model.masked_model import MaskedPass
from unheard.model.transformer import initialise
from unheard.objectives.base import Batch, Objective, Totals, hidden_weights, masked_mean
from unheard.objectives.registry import register

PIXEL_EPS = 1e-6  # MAE reference


@dataclass(frozen=True)
class ReconstructConfig:
    """Pixel loss on hidden patches."""

    weight: Weight = 1.0
    """Weight in the sum of objectives; at 0 it is not built."""
    norm_pix: bool = False
    """Standardise each target patch by its own mean and variance (MaskSpec, AudioMAE)."""


class Reconstruct(Objective):
    """Mean squared error between the predicted and the true values of hidden patches.

        L = mean over hidden patches m of  1/P sum_p (y_mp - x_mp)^2

    With ``norm_pix`` the target is (x - mean) / sqrt(var + 1e-6) of its own patch, the variance unbiased.
    """

    def __init__(self, config: ReconstructConfig, decoder_dim: int, patch_dim: int) -> None:
        super().__init__()
        self.norm_pix = config.norm_pix
        self.head = nn.Linear(decoder_dim, patch_dim)
        initialise(self)

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the hidden patches that are not padding."""
        hide = out.mask.hide
        predicted = self.head(take(out.decoded, hide)).float()
        target = self.target(take(out.patches, hide).float())
        error = (predicted - target).square().mean(dim=-1)  # (B, M)
        return masked_mean(error, hidden_weights(batch, out.mask), totals["hidden"])

    def target(self, patches: Float[Tensor, "B M P"]) -> Float[Tensor, "B M P"]:
        """Return the target of the head for the given patches."""
        if not self.norm_pix:
            return patches
        return (patches - patches.mean(dim=-1, keepdim=True)) / (patches.var(dim=-1, keepdim=True) + PIXEL_EPS).sqrt()

    def spectrogram(self, decoded: Float[Tensor, "B N E"], patches: Float[Tensor, "B N P"]) -> Float[Tensor, "B N P"]:
        """Return predicted patches in the scale of the input.

        With ``norm_pix`` the head does not predict a patch's level. Mean and deviation are then taken from the true
        patch, as in MAE's own figures.
        """
        predicted: Tensor = self.head(decoded).float()
        if not self.norm_pix:
            return predicted
        deviation = (patches.var(dim=-1, keepdim=True) + PIXEL_EPS).sqrt()
        return predicted * deviation + patches.mean(dim=-1, keepdim=True)


register(
    "reconstruct",
    ReconstructConfig,
    lambda config, model, _: Reconstruct(config, model.decoder.embed_dim, model.grid.patch_dim),
)
