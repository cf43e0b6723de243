"""Learning-rate schedules of fine-tuning."""

from __future__ import annotations

import math

from unheard.finetuning.recipe import FinetuneRecipe
from unheard.training.optim import learning_rate, peak_learning_rate

RAMPUP_EXPONENT = 5.0  # of PaSST's warm-up, from Laine and Aila 2017


def rate_at(progress: float, recipe: FinetuneRecipe) -> float:
    """Return the learning rate, without layer decay, at ``progress`` in [0, 1].

    cosine: linear warm-up, then half a cosine
    linear: peak exp(-5 (1 - t/warm-up)^2), then the peak, then a linear decay to the lowest rate
    """
    adapt, warmup, peak = recipe.adapt, recipe.training.warmup, peak_learning_rate(recipe.training)
    lowest = min(adapt.min_learning_rate, peak)
    if adapt.schedule == "cosine":
        return learning_rate(progress, peak, warmup, lowest)
    if progress < warmup:
        return peak * math.exp(-RAMPUP_EXPONENT * (1 - progress / warmup) ** 2)
    begin, end = adapt.decay_range
    decayed = 0.0 if progress <= begin else min(1.0, (progress - begin) / max(end - begin, 1e-12))
    return peak - (peak - lowest) * decayed
