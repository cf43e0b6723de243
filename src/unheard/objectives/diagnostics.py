"""Numbers that tell whether latent objectives still learn anything, or have collapsed. None of them has a gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

VARIANCE_EPS = 1e-6  # MATPAC reference


def feature_std(features: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """How far unit-length features spread over the tokens of a batch: 1 when they point everywhere, 0 when all are the same.

    The standard deviation of each channel, sqrt(var + 1e-6), averaged over channels and multiplied by sqrt(D).

    Parameters
    ----------
    features : Float[Tensor, "B M D"]
    weights : Float[Tensor, "B M"]
        1 for tokens that count, 0 for padding.
    """
    return spread(F.normalize(features.float(), dim=-1), weights) * math.sqrt(features.shape[-1])


def content_std(
    features: Float[Tensor, "B M D"], index: Int[Tensor, "B M"], weights: Float[Tensor, "B M"], places: int
) -> Float[Tensor, ""]:
    """What is left of `feature_std` when each place in the window loses its mean over the batch: how far features tell sounds apart.

    Features that tell nothing but where a patch sits have a high `feature_std` and none of this.

    Parameters
    ----------
    features : Float[Tensor, "B M D"]
    index : Int[Tensor, "B M"]
        Place of each token in the window.
    weights : Float[Tensor, "B M"]
        1 for tokens that count, 0 for padding.
    places : int
        Places in a window (N).
    """
    unit = F.normalize(features.float(), dim=-1).flatten(0, 1) * weights.reshape(-1, 1)  # (B M, D)
    flat = index.flatten()
    count = unit.new_zeros(places).index_add(0, flat, weights.flatten())
    total = unit.new_zeros(places, unit.shape[1]).index_add(0, flat, unit)
    mean = total / count.clamp(min=1)[:, None]
    squares = (unit - mean[flat] * weights.reshape(-1, 1)).square().sum(dim=0)
    variance = squares / (count.sum() - (count > 0).sum()).clamp(min=1)
    return (variance + VARIANCE_EPS).sqrt().mean() * math.sqrt(features.shape[-1])


def spread(values: Float[Tensor, "B M D"], weights: Float[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Mean over channels of sqrt(var + 1e-6), the variance over tokens, unbiased."""
    count = weights.sum()
    mean = torch.einsum("bm,bmd->d", weights, values) / count.clamp(min=1)
    variance = torch.einsum("bm,bmd->d", weights, (values - mean).square()) / (count - 1).clamp(min=1)
    deviation: Tensor = (variance + VARIANCE_EPS).sqrt().mean()
    return deviation


def perplexity(probabilities: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Exponential of the entropy: how many of the K outcomes are in use, as if each were used equally."""
    found: Tensor = torch.special.entr(probabilities).sum().exp()
    return found


def shares(index: Int[Tensor, "B M"], weights: Float[Tensor, "B M"], kinds: int) -> Float[Tensor, " K"]:
    """Weight of the tokens assigned to each of ``kinds``."""
    return weights.new_zeros(kinds).scatter_add(0, index.flatten(), weights.flatten())
