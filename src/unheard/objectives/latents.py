"""Predict the teacher's view of the hidden patches: the objective of M2D and MATPAC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unheard.config import Weight
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.objectives.base import Batch, Objective, valid_mean

TARGET_EPS = 1e-6  # M2D reference


@dataclass(frozen=True)
class LatentsConfig:
    """Latent loss on hidden patches; needs the EMA teacher."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; at 0 neither it nor the teacher is built."""
    standardise_target: bool = True
    """Standardise each target token over its channels first (M2D); MATPAC does not."""
    distance: Literal["cosine", "mse"] = "cosine"
    """2 - 2 cos, the squared distance of unit vectors; or the mean squared difference of the raw ones (an option of M2D)."""


class PredictLatents(Objective):
    """Pull the predictions for hidden patches towards the teacher's view of them.

        L = mean_m  || p_m/|p_m| - t_m/|t_m| ||^2 = mean_m (2 - 2 cos(p_m, t_m))

    p_m: predictor output at hidden patch m; t_m: EMA teacher output, no gradient.
    """

    def __init__(self, config: LatentsConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, out: MaskedPass, batch: Batch) -> Float[Tensor, ""]:
        """The loss over the hidden patches that are not padding.

        Raises
        ------
        ConfigError
            When the model was built without predictor and teacher.
        """
        if out.predicted is None or out.target is None:
            raise ConfigError("predicting latents needs a model with a teacher; build it with objectives.latents.weight above 0")
        target = out.target.float()
        if self.config.standardise_target:
            target = (target - target.mean(dim=-1, keepdim=True)) / (target.var(dim=-1, keepdim=True) + TARGET_EPS).sqrt()
        predicted = out.predicted[:, :, 0].float()
        if self.config.distance == "mse":
            return valid_mean((predicted - target).square().mean(dim=-1), batch, out)
        return valid_mean(2 - 2 * F.cosine_similarity(predicted, target, dim=-1), batch, out)
