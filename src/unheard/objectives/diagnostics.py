"""Diagnostics that show whether latent objectives still learn or have collapsed. None of them has a gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

VARIANCE_EPS = 1e-6  # MATPAC reference
RANK_EPS = 1e-12  # keeps the rank of features that do not vary at 1; our choice


def feature_std(features: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Return the spread of unit-length features over the tokens of a batch: 1 for uniform directions, 0 for equal
    features.

    The standard deviation of each channel, sqrt(var + 1e-6), averaged over channels and multiplied by sqrt(D).

    Parameters
    ----------
    features : Float[Tensor, "B M D"]
    weights : Float[Tensor, "B M"]
        1 for tokens that count, 0 for padding.
    """
    return spread(F.normalize(features.float(), dim=-1), weights) * math.sqrt(features.shape[-1])


def effective_rank(features: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Return the effective rank of unit-length features: tr(C)^2 / tr(C^2), C their covariance (participation ratio).

    Features can spread far along one or two directions only; `feature_std` does not detect that.
    """
    centred = _centred(features, weights)
    covariance = torch.einsum("bm,bmd,bme->de", weights, centred, centred)
    rank: Tensor = (covariance.trace().square() + RANK_EPS) / (covariance.square().sum() + RANK_EPS)
    return rank


def between_clip_variance(features: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Return the fraction of the features' variance that lies between clips; at 1 all patches of a clip are equal."""
    centred, count = _centred(features, weights), weights.sum(dim=1, keepdim=True)
    means = torch.einsum("bm,bmd->bd", weights, centred) / count.clamp(min=1)
    between, whole = (means.square() * count).sum(), (centred.square() * weights[..., None]).sum()
    return between / whole.clamp(min=RANK_EPS)


def _centred(features: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    unit = F.normalize(features.float(), dim=-1)
    return unit - torch.einsum("bm,bmd->d", weights, unit) / weights.sum().clamp(min=1)


def spread(values: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Return the mean over channels of sqrt(var + 1e-6), the variance over tokens, unbiased."""
    count = weights.sum()
    mean = torch.einsum("bm,bmd->d", weights, values) / count.clamp(min=1)
    variance = torch.einsum("bm,bmd->d", weights, (values - mean).square()) / (count - 1).clamp(min=1)
    deviation: Tensor = (variance + VARIANCE_EPS).sqrt().mean()
    return deviation


def perplexity(probabilities: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Return the exponential of the entropy: the number of outcomes in use, as if each were used equally."""
    found: Tensor = torch.special.entr(probabilities).sum().exp()
    return found


def shares(index: Int[Tensor, "B M"], weights: Float[Tensor, "B M"], kinds: int) -> Float[Tensor, " K"]:
    """Return the weight of the tokens assigned to each of ``kinds``."""
    return weights.new_zeros(kinds).scatter_add(0, index.flatten(), weights.flatten())
