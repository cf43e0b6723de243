"""Predict the targets of both sources from their mixture: the source retention of SSLAM."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unheard.config import Weight
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.objectives.base import Batch, Objective, Totals, hidden_weights, masked_mean
from unheard.objectives.registry import register


@dataclass(frozen=True)
class RetentionConfig:
    """Prediction of the mean target of both windows of a mixture; needs data.mixtures and the EMA teacher."""

    weight: Weight = 0.0
    """Weight in the sum of objectives (SSLAM: that of the latents)."""


class RetainSources(Objective):
    """Minimise the distance between the predictions for a mixture and the mean target of its sources.

        L = mean over hidden m of the mixtures of mean_d (p_md - r_md)^2

    p: predictor output; r: see `unheard.model.mixtures`, without gradient. The second half of the rows of a pass are
    the mixtures.
    """

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return "mixed", the number of hidden patches of the mixtures that are not padding."""
        return {"mixed": _of_mixtures(hidden_weights(batch, mask)).sum()}

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the hidden patches of the mixtures that are not padding.

        Raises
        ------
        ConfigError
            When the batch has no mixtures, or the teacher encodes hidden patches only.
        """
        if out.retained is None:
            raise ConfigError("objectives.retention needs mixtures; set data.mixtures=true and teacher.sees=all")
        predicted = _of_mixtures(out.best_prediction()).float()
        distance = (predicted - out.retained.float()).square().mean(dim=-1)
        return masked_mean(distance, _of_mixtures(hidden_weights(batch, out.mask)), totals["mixed"])


def _of_mixtures(rows: Tensor) -> Tensor:
    return rows[rows.shape[0] // 2 :]


register("retention", RetentionConfig, lambda config, model, _: RetainSources(), teacher=True)
