"""Third-party X-ARES encoders as encoders of an evaluation."""

from __future__ import annotations

import hashlib
import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.teachers.hear_module import Frames, Scenes, declared_rate, dense_tensor
from unheard.teachers.third_party import call_third_party, import_third_party


class XaresEncoder:
    """An X-ARES encoder: a module with ``sampling_rate`` and ``hop_size_in_ms`` that maps (n, S) to (n, t, D).

    The vector of a clip is the mean over time. The k-th vector is centred (k + 1/2) hops after the start.
    """

    def __init__(self, name: str, module: nn.Module, device: str = "cpu") -> None:
        self.name, self.identity, self.options = name, f"{name} {_fingerprint(module)}", dict[str, Any]()
        self.sample_rate, self.hop_ms = declared_rate(module, "sampling_rate", name), _hop(module, name)
        self._module, self._device = module.to(device).eval(), device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return one vector for each clip."""
        return self.timestamps(audio)[0].mean(dim=1)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            frames = dense_tensor(self._module(audio.to(self._device)))
        times = (torch.arange(frames.shape[1]) + 0.5) * self.hop_ms
        return frames, times.expand(len(frames), -1)


def xares_encoder(text: str, device: str) -> XaresEncoder:
    """Return the encoder of ``MODULE`` or ``MODULE:CLASS``."""
    name, _, wanted = text.partition(":")
    found = {
        key: value
        for key, value in vars(import_third_party(name)).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and (key == wanted if wanted else value.__module__ == name)
    }
    if len(found) != 1:
        raise ConfigError(
            f"{name} has {len(found)} encoders{' named ' + wanted if wanted else ''}; write xares:{name}:CLASS"
        )
    kind = next(iter(found.values()))
    encoder = call_third_party(kind, f"{kind.__name__} of {name}")
    if missing := [each for each in ("sampling_rate", "hop_size_in_ms", "output_dim") if not hasattr(encoder, each)]:
        raise ConfigError(f"the encoder of {name} has no {missing[0]}, which X-ARES requires")
    return call_third_party(lambda: XaresEncoder(text.replace(":", "."), encoder, device), f"moving {name} to {device}")


def _hop(module: nn.Module, name: str) -> float:
    """Return the milliseconds between vectors that a module declares."""
    hop = module.hop_size_in_ms
    if not isinstance(hop, int | float | np.number) or not 0 < hop < np.inf:
        raise ConfigError(
            f"the model of {name} has the hop_size_in_ms {hop!r}; it must be a number of milliseconds such as 40"
        )
    return float(hop)


def _fingerprint(module: nn.Module) -> str:
    """Return a hash of the weights of a module and of the file that defines its class."""
    digest = hashlib.sha256()
    with suppress(OSError, TypeError):  # a class made at run time has no file
        digest.update(Path(inspect.getfile(type(module))).read_bytes())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
