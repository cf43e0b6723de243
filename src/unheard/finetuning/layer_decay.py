"""Layer-wise learning-rate decay from the head to the input, as in MaskSpec and AudioMAE (from BEiT and MAE)."""

from __future__ import annotations

import re


def layer_scale(name: str, depth: int, decay: float) -> float:
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
    """
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    if block:
        return float(decay ** (depth - int(block[1])))
    early = name.rpartition("encoder.")[2].startswith(("patch_embed.", "cls_token", "positions"))
    return float(decay ** (depth + 1)) if early else 1.0


def decays(name: str, dimensions: int) -> bool:
    """Return whether weight decay applies to a parameter: only to matrices, not to the CLS token and positions."""
    return dimensions > 1 and not name.endswith(("cls_token", "positions"))
