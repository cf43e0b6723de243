"""Learning rates that fall from the head towards the input, as fine-tuning of MaskSpec and AudioMAE has them (from BEiT
and MAE).
"""

from __future__ import annotations

import re


def layer_scale(name: str, depth: int, decay: float) -> float:
    """What multiplies the learning rate of an encoder's parameter.

        scale = decay^(depth + 1 - layer);  patch embedding, CLS token and positions are layer 0, block i is layer i + 1

    Parameters
    ----------
    name : str
        Its name in the encoder, such as ``transformer.blocks.3.fc1.weight``; anything outside patches, tokens and
        blocks, such as a norm or a head behind them, has scale 1.
    depth : int
        Blocks of the encoder.
    decay : float
        1 gives every parameter the same rate; 0.75 is the published value.
    """
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    if block:
        return float(decay ** (depth - int(block[1])))
    early = name.rpartition("encoder.")[2].startswith(("patch_embed.", "cls_token", "positions"))
    return float(decay ** (depth + 1)) if early else 1.0


def decays(name: str, dimensions: int) -> bool:
    """Whether weight decay acts on a parameter in fine-tuning: matrices do, vectors, CLS token and positions do not."""
    return dimensions > 1 and not name.endswith(("cls_token", "positions"))
