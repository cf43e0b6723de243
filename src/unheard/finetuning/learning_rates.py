"""Learning rates of fine-tuning: the schedule over a run, and layer-wise decay as in MaskSpec and AudioMAE."""

from __future__ import annotations

import math
import re

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
        return max(recipe.training.min_learning_rate, learning_rate(progress, peak, warmup, lowest))
    if progress < warmup:
        return peak * math.exp(-RAMPUP_EXPONENT * (1 - progress / warmup) ** 2)
    begin, end = adapt.decay_range
    decayed = 0.0 if progress <= begin else min(1.0, (progress - begin) / max(end - begin, 1e-12))
    return peak - (peak - lowest) * decayed


def layer_scale(name: str, depth: int, decay: float, embedding: bool = True) -> float:
    """Return the factor of the learning rate of an encoder parameter.

        scale = decay^(depth + 1 - layer);  patch embedding, CLS token and positions are layer 0, block i is layer i + 1

    Parameters
    ----------
    name : str
        Name of the parameter in the encoder, such as ``transformer.blocks.3.fc1.weight``. Parameters after the blocks,
        such as a norm or a head, have scale 1.
    depth : int
        Number of blocks of the encoder.
    decay : float
        1 gives every parameter the same rate; the published value is 0.75.
    embedding : bool
        Whether layer 0 has a factor; if not, it is 1 (EAT).
    """
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    if block:
        return float(decay ** (depth - int(block[1])))
    early = name.rpartition("encoder.")[2].startswith(("patch_embed.", "cls_token", "positions"))
    return float(decay ** (depth + 1)) if early and embedding else 1.0


def decays(name: str, dimensions: int) -> bool:
    """Return whether weight decay applies to a parameter: only to matrices, not to the CLS token and positions."""
    return dimensions > 1 and not name.endswith(("cls_token", "positions"))
