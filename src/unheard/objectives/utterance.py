"""Predict the mean target of a window from the CLS token: the utterance objective of EAT and BAT."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unheard.config import Weight
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.objectives.base import Batch, Objective, Totals
from unheard.objectives.registry import register


@dataclass(frozen=True)
class UtteranceConfig:
    """Prediction of the mean target of the whole window from the CLS token; needs the EMA teacher."""

    weight: Weight = 0.0
    """Weight in the sum of objectives (BAT: 1; EAT: 192 times that of the patches)."""


class PredictUtterance(Objective):
    """Minimise the distance between the CLS output of each view and the mean target of its window.

        L = mean over views v and channels d of (c_vd - mean_n y_nd)^2

    c: CLS output of the student; y: the teacher's target of patch n, over all patches that are not padding, without
    gradient, from the last ``teacher.utterance_layers`` blocks if that is set.
    """

    needs_decoder = False

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return "views", the number of views of the batch."""
        return {"views": batch.noise.new_full((), mask.keep.shape[0])}

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the views.

        Raises
        ------
        ConfigError
            When the teacher encodes hidden patches only, or the encoder has no CLS token.
        """
        if out.whole is None:
            raise ConfigError("objectives.utterance needs the targets of all patches; set teacher.sees=all")
        if out.cls is None:
            raise ConfigError("objectives.utterance trains the CLS token; set model.cls_token=true")
        whole = out.whole if out.last is None else out.last
        views = out.cls.shape[0] // whole.shape[0]
        valid = batch.valid[::views, :, None].to(whole.dtype)
        mean = (whole * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
        distance = (out.cls.float() - mean.float().repeat_interleave(views, dim=0)).square().mean(dim=-1)
        return distance.sum() / totals["views"]


register("utterance", UtteranceConfig, lambda config, model, _: PredictUtterance(), teacher=True)
