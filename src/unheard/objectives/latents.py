"""Predict the teacher's latents of the hidden patches: the objective of M2D, MATPAC and MATPAC++."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unheard.config import Fraction, Positive, Weight
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.objectives.base import Batch, Objective, Totals, hidden_weights, masked_mean
from unheard.objectives.diagnostics import between_clip_variance, effective_rank, feature_std, perplexity, shares
from unheard.objectives.registry import register
from unheard.objectives.teacher_schedules import TrainingProgress, exponential_decay

TARGET_EPS = 1e-6  # M2D reference


@dataclass(frozen=True)
class LatentsConfig:
    """Latent loss on hidden patches; needs the EMA teacher."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; at 0 it is not built."""
    standardise_target: bool = True
    """Standardise each target token over its channels first (M2D); MATPAC does not."""
    distance: Literal["cosine", "mse"] = "cosine"
    """2 - 2 cos, the squared distance of unit vectors; or the mean squared difference of the raw ones (an option of
    M2D).
    """
    wta_temperature_start: Positive = 0.1
    """With several hypotheses: temperature of their weights for a token, at the first step (MATPAC++ configuration)."""
    wta_temperature_end: Positive = 1e-4
    """Temperature below which only the nearest hypothesis counts (MATPAC++ configuration)."""
    wta_fraction: Fraction = 0.781
    """Fraction of the run at which that happens (0.1 * 0.99997^k falls below 1e-4 at 230 257 of 294 816 steps)."""


class PredictLatents(Objective):
    """Minimise the distance between the predictions for hidden patches and the teacher's latents.

        L = mean_m  l_m,   l_m = || p_m/|p_m| - t_m/|t_m| ||^2 = 2 - 2 cos(p_m, t_m)

    p_m: predictor output at hidden patch m; t_m: EMA teacher output, no gradient. With R hypotheses p_m1 .. p_mR
    (MATPAC++):

        l_m = sum_r w_r l_mr,  w_r = softmax_r(-l_mr / T) without gradient;  once T is below its end:
        l_m = min_r l_mr
    """

    def __init__(self, config: LatentsConfig, hypotheses: int = 1) -> None:
        super().__init__()
        self.config, self.hypotheses = config, hypotheses

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the hidden patches that are not padding.

        Raises
        ------
        ConfigError
            When the model was built without predictor and teacher.
        """
        if out.predicted is None or out.target is None:
            raise ConfigError(
                "predicting latents needs a model with a teacher; build it with objectives.latents.weight above 0"
            )
        weights = hidden_weights(batch, out.mask)
        self._measure(out, out.best_prediction(), out.target, weights)
        distances = self.distances(out.predicted.float(), out.target.float())  # (B, M, R)
        return masked_mean(self.shared(distances, self.temperature(out.progress)), weights, totals["hidden"])

    def distances(self, predicted: Float[Tensor, "B M R D"], target: Float[Tensor, "B M D"]) -> Float[Tensor, "B M R"]:
        """Return the distance of each hypothesis to the target."""
        if self.config.standardise_target:
            target = (target - target.mean(dim=-1, keepdim=True)) / (
                target.var(dim=-1, keepdim=True) + TARGET_EPS
            ).sqrt()
        if self.config.distance == "mse":
            return (predicted - target[:, :, None]).square().mean(dim=-1)
        return 2 - 2 * F.cosine_similarity(predicted, target[:, :, None], dim=-1)

    def shared(self, distances: Float[Tensor, "B M R"], temperature: Float[Tensor, ""]) -> Float[Tensor, "B M"]:
        """Return the loss of each token: the hypotheses weighted by their distance, or the nearest alone."""
        if distances.shape[-1] == 1:
            return distances[..., 0]
        weights = (-distances.detach() / temperature).softmax(dim=-1)
        soft, hard = (weights * distances).sum(dim=-1), distances.min(dim=-1).values
        return torch.where(temperature > self.config.wta_temperature_end, soft, hard)

    def temperature(self, progress: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return T at this fraction of the run."""
        config = self.config
        return exponential_decay(
            progress, config.wta_temperature_start, config.wta_temperature_end, config.wta_fraction
        )

    def after_pass(self, sums: Totals) -> dict[str, Tensor]:
        """Return the perplexity of the hypotheses, if there are several."""
        if "wins" not in sums:
            return {}
        wins = sums["wins"]
        return {"hypothesis_perplexity": perplexity(wins / wins.sum().clamp(min=1))}

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        """Return the temperature of the hypotheses, if there are several."""
        return {"wta_temperature": float(self.temperature(when.progress_tensor()))} if self.hypotheses > 1 else {}

    @torch.no_grad()
    def _measure(
        self,
        out: MaskedPass,
        prediction: Float[Tensor, "B M D"],
        target: Float[Tensor, "B M D"],
        weights: Float[Tensor, "B M"],
    ) -> None:
        out.diagnostics["feature_std"] = feature_std(target, weights)
        out.diagnostics["effective_rank"] = effective_rank(target, weights)
        out.diagnostics["between_clip_variance_fraction"] = between_clip_variance(target, weights)
        out.diagnostics["prediction_std"] = feature_std(prediction, weights)
        if out.best is not None:
            out.sums["wins"] = shares(out.best, weights, self.hypotheses)


register("latents", LatentsConfig, lambda config, model, _: PredictLatents(config, model.num_hypotheses), teacher=True)
