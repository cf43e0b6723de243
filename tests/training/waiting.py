"""What the tests of waiting share: a device without values, and modes that collect what a GPU would wait for."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unheard.devices import to_device
from unheard.recipes.recipe import TrainingConfig
from unheard.training.engine import Engine

META = torch.device("meta")
FROM_VALUES = ("tensor", "new_tensor", "as_tensor")


class Copies(TorchDispatchMode):
    """Collects the copies between devices, apart from those of `to_device`: a GPU does not wait for pinned memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in (*args, result) if isinstance(each, Tensor)]
        if "copy" in str(func) and len({each.device for each in tensors}) > 1 and not _pinned():
            self.found.append(str(func))
        return result


def _pinned() -> bool:
    return any(frame.f_code.co_name == to_device.__name__ for frame, _ in traceback.walk_stack(None))


class HostValues(TorchFunctionMode):
    """Collects the tensors of the device that are made from numbers of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in FROM_VALUES and result.device == META:
            self.found.append(func.__name__)
        return result


class MetaAccelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Accept any device."""


def meta_engine(training: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine on the device without values; autocast and the fused optimiser do not support it."""
    autocast, adam = torch.autocast, torch.optim.AdamW
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *given, **named: nullcontext() if kind == "meta" else autocast(kind, *given, **named),
    )
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, fused, **named: adam(groups, foreach=True, **named))
    engine = Engine(training, "cpu")
    engine.fabric = Fabric(strategy=SingleDeviceStrategy(META, accelerator=MetaAccelerator()))
    return engine


@contextmanager
def no_waiting_on_meta() -> Iterator[None]:
    """Refuse copies from memory that is not pinned, and numbers of Python; reading a value is an error there."""
    with Copies() as copies, HostValues() as values:
        yield
    assert copies.found == [] and values.found == []


@contextmanager
def no_waiting_on_gpu() -> Iterator[None]:
    """Refuse every operation for which the program waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
