"""Devices of models."""

from __future__ import annotations

from unheard.errors import ConfigError


def torch_device(name: str) -> str:
    """Return the device of a name: for auto the fastest one, otherwise the name itself, such as ``cuda:1``.

    Lightning Fabric, which the training uses for this, is slow to import.

    Raises
    ------
    ConfigError
        When it is not a device of torch, or not available on this machine.
    """
    import torch

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
