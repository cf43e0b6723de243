"""Modules of other people as encoders of an evaluation: those with the HEAR common API, and X-ARES encoders."""

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

# (n, D), and (n, t, D) with (n, t). Other people's code makes them, so `embeddings` checks their shapes and says whose
# they are.
Scenes = Tensor
Frames = tuple[Tensor, Tensor]


class HearEncoder:
    """A model behind the functions of the HEAR common API.

    Parameters
    ----------
    module : module
        Has ``get_scene_embeddings`` and ``get_timestamp_embeddings``.
    model : object
        What its ``load_model`` gave.
    device : str, optional
        Where a torch module is moved, and audio for it. A model of another kind, or without a device, stays and is
        given CPU audio.
    options : mapping, optional
        What its ``load_model`` was given.
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
        """One vector for each clip."""
        with torch.no_grad():
            return _tensor(self._module.get_scene_embeddings(audio.to(self._device), self._model))

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            found = self._module.get_timestamp_embeddings(audio.to(self._device), self._model)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise DataError(
                f"get_timestamp_embeddings of {self.name} gave {type(found).__name__}; it must give embeddings and"
                " times"
            )
        return _tensor(found[0]), _tensor(found[1])


class XaresEncoder:
    """A module with ``sampling_rate`` and ``hop_size_in_ms`` whose forward gives (n, S) -> (n, t, D), as X-ARES asks
    for.

    A clip is the mean over time; the k-th vector is centred (k + 1/2) hops after the start.
    """

    def __init__(self, name: str, module: nn.Module, device: str = "cpu") -> None:
        self.name, self.identity, self.options = name, name, dict[str, Any]()
        self.sample_rate, self.hop_ms = _rate(module, "sampling_rate", name), _hop(module, name)
        self._module, self._device = module.to(device).eval(), device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """One vector for each clip."""
        return self.timestamps(audio)[0].mean(dim=1)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            frames = _tensor(self._module(audio.to(self._device)))
        times = (torch.arange(frames.shape[1]) + 0.5) * self.hop_ms
        return frames, times.expand(len(frames), -1)


def hear_encoder(text: str, device: str, runtime: Runtime) -> HearEncoder:
    """The encoder of ``MODULE`` or ``MODULE:WEIGHTS``, loaded with the options that are given."""
    name, _, weights = text.partition(":")
    module, given = import_third_party(name), runtime.given()
    wanted = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    if missing := [each for each in wanted if not callable(getattr(module, each, None))]:
        raise ConfigError(f"{name} has no {missing[0]}; a HEAR module has {', '.join(wanted)}")
    if given:
        _refuse_unknown(name, module.load_model, given)
    model = call_third_party(lambda: module.load_model(*filter(None, [weights]), **given), f"load_model of {name}")
    called = f"{name}.{_called(Path(weights))}" if weights else name
    identity = f"{text} {given}" if given else text
    return call_third_party(
        lambda: HearEncoder(called, module, model, identity, device, given), f"moving {name} to {device}"
    )


def _refuse_unknown(name: str, load: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse options that the ``load_model`` of a module does not take."""
    parameters = inspect.signature(load).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    if unknown := [option for option in given if option not in parameters]:
        raise ConfigError(
            f"load_model of {name} takes no {', '.join(unknown)}; leave {'it' if len(unknown) == 1 else 'them'} out"
        )


def _called(weights: Path) -> str:
    """Weights in the name of an encoder: a file without its ending, or the last part of what else a module takes."""
    return weights.stem if weights.is_file() else weights.name


def xares_encoder(text: str, device: str) -> XaresEncoder:
    """The encoder of ``MODULE`` or ``MODULE:CLASS``."""
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
            f"{name} offers {len(found)} encoders{' named ' + wanted if wanted else ''}; write xares:{name}:CLASS"
        )
    kind = next(iter(found.values()))
    encoder = call_third_party(kind, f"{kind.__name__} of {name}")
    if missing := [each for each in ("sampling_rate", "hop_size_in_ms", "output_dim") if not hasattr(encoder, each)]:
        raise ConfigError(f"the encoder of {name} has no {missing[0]}; X-ARES asks for it")
    return call_third_party(lambda: XaresEncoder(text.replace(":", "."), encoder, device), f"moving {name} to {device}")


def _tensor(found: object) -> Tensor:
    """What a module gave, on the CPU."""
    if not isinstance(found, Tensor):
        raise DataError(f"the model gave {type(found).__name__} where a torch tensor is expected")
    if found.layout != torch.strided:
        kind = str(found.layout).removeprefix("torch.")
        raise DataError(f"the model gave a tensor of the layout {kind}; a dense one is expected, see to_dense")
    return found.detach().cpu()


def _rate(model: object, attribute: str, name: str) -> int:
    """The sample rate a module declares."""
    rate = getattr(model, attribute, None)
    if not isinstance(rate, int | float | np.number) or not 1000 <= rate <= 192_000 or rate != int(rate):
        raise ConfigError(f"the model of {name} has the {attribute} {rate!r}; it must be a number of Hz such as 16000")
    return int(rate)


def _hop(module: nn.Module, name: str) -> float:
    """Milliseconds from one vector to the next, as a module declares them."""
    hop = module.hop_size_in_ms
    if not isinstance(hop, int | float | np.number) or not 0 < hop < np.inf:
        raise ConfigError(
            f"the model of {name} has the hop_size_in_ms {hop!r}; it must be a number of milliseconds such as 40"
        )
    return float(hop)
