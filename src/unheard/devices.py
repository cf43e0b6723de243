"""Devices of models, what they support, and copies to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import ConfigError


def torch_device(name: str) -> str:
    """Return the device of a name: for auto the fastest one, otherwise the name itself, such as ``cuda:1``.

    Lightning Fabric, which the training uses for this, is slow to import.

    Raises
    ------
    ConfigError
        When it is not a device of torch, or not available on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [device for device, available in there.items() if available]
    if name == "auto":
        return usable[0]
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if not kind or not there.get(kind, True):
        raise ConfigError(f"device {name!r} is not available here; usable: auto, {', '.join(usable)}")
    return name


def bf16_on_cpu() -> bool:
    """Return whether this processor supports bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def device_of_worker(name: str, worker: int, threads: int) -> str:
    """Return the device of one of several workers, which take several GPUs one after the other; set its threads.

    Parameters
    ----------
    name : str
        As of `torch_device`.
    worker : int
        Number of the worker, from 0.
    threads : int
        Number of threads of torch.

    Raises
    ------
    ConfigError
        As `torch_device`.
    """
    torch.set_num_threads(threads)
    device = torch_device(name)
    count = torch.cuda.device_count() if device == "cuda" else 0
    return f"cuda:{worker % count}" if count > 1 else device


def to_device(values: NDArray[Any] | Tensor, device: torch.device | str) -> Tensor:
    """Copy an array or a tensor of the CPU to a device, through pinned memory, so that a GPU does not wait for it."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    target = torch.device(device)
    return tensor.pin_memory().to(target, non_blocking=True) if target.type == "cuda" else tensor.to(target)
