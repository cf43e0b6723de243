"""Sums of tensors over the processes of a run."""

from __future__ import annotations

import torch
from jaxtyping import Num
from torch import Tensor


def summed(value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Return the sum over all processes, without gradient.

    Fabric's reduction waits for all processes and for the device first; this one only queues the exchange.
    """
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total
