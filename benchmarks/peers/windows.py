"""Windows of sounds, for encoders that take pieces of one length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

HOP = 0.1  # seconds between timestamps, our choice; CREPE has this hop in the tables of the HEAR challenge papers
AT_ONCE = 256  # windows a network gets at once


def centred(
    audio: Float[Tensor, "n S"], size: int, hop: float, rate: int
) -> tuple[Float[Tensor, "n t W"], Float[Tensor, "n t"]]:
    """Windows of ``size`` samples around 0, ``hop``, 2 ``hop`` ... seconds, silence beyond the ends, and their centres
    in milliseconds.
    """
    count = int(audio.shape[1] / rate / hop + 1e-9) + 1
    starts = torch.tensor([round(index * hop * rate) for index in range(count)])
    padded = torch.nn.functional.pad(audio, (size // 2, size))
    times = 1000 * hop * torch.arange(count, dtype=torch.float32)
    return padded[:, starts[:, None] + torch.arange(size)], times.expand(len(audio), -1)


def inside(audio: Float[Tensor, "n S"], size: int, hop: float, rate: int) -> Float[Tensor, "n t W"]:
    """Windows every ``hop`` seconds that lie within the sound; of a shorter sound one, filled with silence."""
    audio = torch.nn.functional.pad(audio, (0, max(0, size - audio.shape[1])))
    return audio.unfold(1, size, round(hop * rate))


def encode(
    windows: Float[Tensor, "n t W"], network: Callable[[Float[Tensor, "m W"]], Float[Tensor, "m D"]]
) -> Float[Tensor, "n t D"]:
    """Each window's vector, some windows at a time."""
    flat = windows.flatten(0, 1)
    with torch.inference_mode():
        vectors = torch.cat([network(part) for part in flat.split(AT_ONCE)])
    return vectors.unflatten(0, windows.shape[:2]).float().clone()


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let a package be imported whose module ``name`` is neither there nor used."""
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]
