"""Probabilities and losses of classification, for clips of one class and for clips of several."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def probabilities(logits: Float[Tensor, "*n C"], multilabel: bool) -> Float[Tensor, "*n C"]:
    """Return the sigmoid of the logits where clips may have several classes, else their softmax."""
    return logits.sigmoid() if multilabel else logits.softmax(dim=-1)


def clip_losses(
    logits: Float[Tensor, "B C"],
    target: Float[Tensor, "B C"],
    multilabel: bool,
    annotated: Float[Tensor, "B C"] | None = None,
) -> Float[Tensor, " B"]:
    """Return the loss of each clip.

        several classes:  mean_c a_c BCE(z_c, y_c);    one class:  - sum_c y_c / sum_c y_c  log softmax(z)_c

    Parameters
    ----------
    target : Float[Tensor, "B C"]
        1 where a clip has a class, 0 elsewhere; mixtures of clips have values between.
    annotated : Float[Tensor, "B C"], optional
        1 for the classes a that are annotated, 0 for others; all where left out.
    """
    if multilabel:
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (losses if annotated is None else losses * annotated).mean(dim=1)
    shares = target / target.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return -(shares * logits.log_softmax(dim=1)).sum(dim=1)


def asymmetric_losses(
    logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], annotated: Float[Tensor, "B C"] | None = None
) -> Float[Tensor, " B"]:
    """Return the asymmetric binary cross-entropy of each clip (Ridnik et al. 2021, arXiv 2009.14119).

        mean_c a_c ( - y_c log s_c - (1 - y_c) w_c log(1 - s_c) ),   s = sigmoid(z),  w = s without gradient

    Confident negatives count less. This is the form of BAT: exponent 1 for negatives, 0 for positives, no margin.
    Parameters as in `clip_losses`.
    """
    score = logits.detach().sigmoid()
    losses = -(target * F.logsigmoid(logits) + (1 - target) * score * F.logsigmoid(-logits))
    return (losses if annotated is None else losses * annotated).mean(dim=1)


def smoothed(target: Float[Tensor, "B C"], amount: float) -> Float[Tensor, "B C"]:
    """Return targets of one class a clip with ``amount`` of their weight spread over all classes (label smoothing)."""
    return target * (1 - amount) + target.sum(dim=1, keepdim=True) * (amount / target.shape[1])
