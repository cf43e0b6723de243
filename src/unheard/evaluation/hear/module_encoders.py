"""Third-party modules as encoders of an evaluation: those with the HEAR common API, and X-ARES encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import ConfigError, DataError
from unheard.evaluation.hear.own_encoder import Runtime
from unheard.evaluation.third_party import call_third_party, import_third_party

# (n, D), and (n, t, D) with (n, t). Third-party code returns them, so `embeddings` checks their shapes and names the
# encoder in its errors.
Scenes = Tensor
Frames = tuple[Tensor, Tensor]


class HearEncoder:
    """A model with the functions of the HEAR common API.

    Parameters
    ----------
    module : module
        Module with ``get_scene_embeddings`` and ``get_timestamp_embeddings``.
    model : object
        Result of its ``load_model``.
    device : str, optional
        Device to which a torch module and its audio are moved. Other models are not moved, and receive CPU audio, as
        do all models without a device.
    options : mapping, optional
        Options passed to its ``load_model``.
    """

    def __init__(
        self,
        name: str,
        module: Any,
        model: Any,
        identity: str,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.identity, self.options = name, identity, dict(options or {})
        self.sample_rate = _rate(model, "sample_rate", name)
        self._module, self._model, self._device = module, model, "cpu"
        if isinstance(model, nn.Module):
            model.eval()
            if device:
                self._model, self._device = model.to(device), device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return one vector for each clip."""
        with torch.no_grad():
            return _tensor(self._module.get_scene_embeddings(audio.to(self._device), self._model))

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            found = self._module.get_timestamp_embeddings(audio.to(self._device), self._model)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise DataError(
                f"get_timestamp_embeddings of {self.name} returned {type(found).__name__}; it must return embeddings"
                " and times"
            )
        return _tensor(found[0]), _tensor(found[1])


class XaresEncoder:
    """An X-ARES encoder: a module with ``sampling_rate`` and ``hop_size_in_ms`` that maps (n, S) to (n, t, D).

    The vector of a clip is the mean over time. The k-th vector is centred (k + 1/2) hops after the start.
    """

    def __init__(self, name: str, module: nn.Module, device: str = "cpu") -> None:
        self.name, self.identity, self.options = name, name, dict[str, Any]()
        self.sample_rate, self.hop_ms = _rate(module, "sampling_rate", name), _hop(module, name)
        self._module, self._device = module.to(device).eval(), device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return one vector for each clip."""
        return self.timestamps(audio)[0].mean(dim=1)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            frames = _tensor(self._module(audio.to(self._device)))
        times = (torch.arange(frames.shape[1]) + 0.5) * self.hop_ms
        return frames, times.expand(len(frames), -1)


def hear_encoder(text: str, device: str, runtime: Runtime) -> HearEncoder:
    """Return the encoder of ``MODULE`` or ``MODULE:WEIGHTS``, loaded with the given options."""
    name, _, weights = text.partition(":")
    module, given = import_third_party(name), runtime.given()
    wanted = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    if missing := [each for each in wanted if not callable(getattr(module, each, None))]:
        raise ConfigError(f"{name} has no {missing[0]}; a HEAR module needs {', '.join(wanted)}")
    if given:
        _refuse_unknown(name, module.load_model, given)
    model = call_third_party(lambda: module.load_model(*filter(None, [weights]), **given), f"load_model of {name}")
    called = f"{name}.{_called(Path(weights))}" if weights else name
    identity = f"{text} {given}" if given else text
    return call_third_party(
        lambda: HearEncoder(called, module, model, identity, device, given), f"moving {name} to {device}"
    )


def _refuse_unknown(name: str, load: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse options that the ``load_model`` of a module does not accept."""
    parameters = inspect.signature(load).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    if unknown := [option for option in given if option not in parameters]:
        raise ConfigError(
            f"load_model of {name} does not accept {', '.join(unknown)}; omit {'it' if len(unknown) == 1 else 'them'}"
        )


def _called(weights: Path) -> str:
    """Return the weights as part of an encoder's name: a file without suffix, or the last part of another value."""
    return weights.stem if weights.is_file() else weights.name


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


def _tensor(found: object) -> Tensor:
    """Return the output of a module, on the CPU."""
    if not isinstance(found, Tensor):
        raise DataError(f"the model returned {type(found).__name__}; expected a torch tensor")
    if found.layout != torch.strided:
        kind = str(found.layout).removeprefix("torch.")
        raise DataError(f"the model returned a tensor of layout {kind}; expected a dense one, see to_dense")
    return found.detach().cpu()


def _rate(model: object, attribute: str, name: str) -> int:
    """Return the sample rate that a module declares."""
    rate = getattr(model, attribute, None)
    if not isinstance(rate, int | float | np.number) or not 1000 <= rate <= 192_000 or rate != int(rate):
        raise ConfigError(f"the model of {name} has the {attribute} {rate!r}; it must be a number of Hz such as 16000")
    return int(rate)


def _hop(module: nn.Module, name: str) -> float:
    """Return the milliseconds between vectors that a module declares."""
    hop = module.hop_size_in_ms
    if not isinstance(hop, int | float | np.number) or not 0 < hop < np.inf:
        raise ConfigError(
            f"the model of {name} has the hop_size_in_ms {hop!r}; it must be a number of milliseconds such as 40"
        )
    return float(hop)
