"""Third-party modules with the HEAR 2021 common API, as encoders and as teachers."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import ConfigError, DataError
from unheard.teachers.align import FeatureMapAxes
from unheard.teachers.teacher import FrozenTeacher
from unheard.teachers.third_party import call_third_party, import_third_party

# (n, D), and (n, t, D) with (n, t). Third-party code returns them, so every caller checks their shapes.
Scenes = Tensor
Frames = tuple[Tensor, Tensor]

FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
REMEMBERED = 256
"""Lengths of clips whose times are kept (our choice)."""

WRONG_UNIT = (0.02, 5.0)
"""Valid range of last time / length of the audio; times in seconds or samples are outside (our choice)."""


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
        self.sample_rate = declared_rate(model, "sample_rate", name)
        self._module, self._model, self._device = module, model, "cpu"
        if isinstance(model, nn.Module):
            model.eval()
            if device:
                self.move(device)

    def move(self, device: str) -> None:
        """Move a torch module; a model of another kind stays on the CPU."""
        if isinstance(self._model, nn.Module) and device != self._device:
            self._model, self._device = self._model.to(device), device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return one vector for each clip."""
        with torch.no_grad():
            return dense_tensor(self._module.get_scene_embeddings(audio.to(self._device), self._model))

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return vectors over time, and their times in milliseconds."""
        with torch.no_grad():
            found = self._module.get_timestamp_embeddings(audio.to(self._device), self._model)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise DataError(
                f"get_timestamp_embeddings of {self.name} returned {type(found).__name__}; it must return embeddings"
                " and times"
            )
        return dense_tensor(found[0]), dense_tensor(found[1])


class HearTeacher(FrozenTeacher):
    """The timestamp embeddings of a HEAR module as a map with one row.

    Parameters
    ----------
    encoder : HearEncoder

    Raises
    ------
    DataError
        When its embeddings have a wrong shape or times.
    """

    def __init__(self, encoder: HearEncoder) -> None:
        super().__init__()
        self.encoder, self.sample_rate, self.name = encoder, encoder.sample_rate, f"HEAR module {encoder.name}"
        self.fingerprint = hashlib.sha256(encoder.identity.encode()).hexdigest()[:16]
        self._times: dict[int, tuple[float, ...]] = {}
        self._scene_size: int | None = None  # of the first call
        frames, _ = self._timestamps(torch.zeros(1, self.sample_rate))
        self.dim = frames.shape[2]
        self.freeze()

    def axes(self, samples: int) -> FeatureMapAxes:
        """Return one row, and the times that the module gave for clips of this length; a silent one is run if there was
        none.
        """
        if samples not in self._times:
            self._timestamps(torch.zeros(1, samples))
        return FeatureMapAxes((), self._times[samples])

    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the timestamp embeddings of each waveform."""
        return self._timestamps(wav)[0].transpose(1, 2)[:, :, None].to(wav.device)

    def scenes(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """Return the scene embeddings of each waveform, which need not be the mean of the timestamp embeddings.

        Raises
        ------
        DataError
            When they have a wrong shape, or another width than in the first call.
        """
        self.encoder.move(str(wav.device))
        what = f"get_scene_embeddings of {self.encoder.name}"
        found = call_third_party(lambda: self.encoder.scenes(wav), what)
        check_shape(found, len(wav), False, what)
        size = self._scene_size = self._scene_size or found.shape[1]
        if found.shape[1] != size:
            raise DataError(
                f"{what} returned {found.shape[1]} values instead of {size}; its embeddings must have one width; use"
                " another encoder or another version of its package"
            )
        return found.float()

    def _timestamps(self, wav: Float[Tensor, "B S"]) -> Frames:
        self.encoder.move(str(wav.device))
        what = f"get_timestamp_embeddings of {self.encoder.name}"
        frames, times = call_third_party(lambda: self.encoder.timestamps(wav), what)
        check_shape(frames, len(wav), True, what)
        check_times(times, frames, 1000 * wav.shape[1] / self.sample_rate, what)
        if wav.shape[1] not in self._times:
            if len(self._times) >= REMEMBERED:
                self._times.clear()
            self._times[wav.shape[1]] = tuple(times[0].double().div(1000).tolist())
        return frames.float(), times


def hear_encoder(text: str, device: str | None = None, options: Mapping[str, Any] | None = None) -> HearEncoder:
    """Return the encoder of ``MODULE`` or ``MODULE:WEIGHTS``, loaded with the options that are given.

    Its identity covers the text, the options, the source file of the module, a weights file, and the weights of a
    torch module.

    Raises
    ------
    ConfigError
        When the module cannot be imported, lacks a function of the HEAR API or an option, or fails.
    """
    name, _, weights = text.partition(":")
    module, given = import_third_party(name), dict(options or {})
    if missing := [each for each in FUNCTIONS if not callable(getattr(module, each, None))]:
        raise ConfigError(f"{name} has no {missing[0]}; a HEAR module needs {', '.join(FUNCTIONS)}")
    if given:
        _refuse_unknown(name, module.load_model, given)
    model = call_third_party(lambda: module.load_model(*filter(None, [weights]), **given), f"load_model of {name}")
    called = f"{name}.{_called(Path(weights))}" if weights else name
    identity = f"{text} {given} {_digest(module, model, Path(weights or '.'))}"
    return call_third_party(
        lambda: HearEncoder(called, module, model, identity, device, given), f"moving {name} to {device}"
    )


def check_shape(found: Tensor, count: int, event: bool, what: str) -> None:
    """Check the shape and type of embeddings of ``count`` clips: (n, D), or (n, t, D) over time.

    Raises
    ------
    DataError
        Naming ``what`` made them.
    """
    wanted = f"({count}, times, size)" if event else f"({count}, size)"
    if found.ndim != (3 if event else 2) or len(found) != count or not found.is_floating_point() or not found.numel():
        raise DataError(
            f"{what}: embeddings have the shape {tuple(found.shape)} and type {found.dtype}; they must be floats"
            f" {wanted}"
        )


def check_times(times: Tensor, frames: Tensor, length: float, what: str) -> None:
    """Check that there is one time per frame, that times increase, and that they are in milliseconds.

    Raises
    ------
    DataError
        Naming ``what`` made them.
    """
    if times.shape != frames.shape[:2]:
        raise DataError(f"{what}: times have the shape {tuple(times.shape)}; embeddings have {tuple(frames.shape)}")
    if not bool((times.diff(dim=1) > 0).all()) or not bool(torch.isfinite(times).all()):
        raise DataError(f"{what}: times must increase from frame to frame and be finite")
    last = float(times[:, -1].max())
    if times.shape[1] > 1 and not WRONG_UNIT[0] <= last / length <= WRONG_UNIT[1]:
        raise DataError(
            f"{what}: the last time is {last:g} where the audio ends at {length:g} ms; times must be milliseconds"
        )


def dense_tensor(found: object) -> Tensor:
    """Return the output of a module, on the CPU.

    Raises
    ------
    DataError
        When it is no dense tensor.
    """
    if not isinstance(found, Tensor):
        raise DataError(f"the model returned {type(found).__name__}; expected a torch tensor")
    if found.layout != torch.strided:
        kind = str(found.layout).removeprefix("torch.")
        raise DataError(f"the model returned a tensor of layout {kind}; expected a dense one, see to_dense")
    return found.detach().cpu()


def declared_rate(model: object, attribute: str, name: str) -> int:
    """Return the sample rate that a module declares.

    Raises
    ------
    ConfigError
        When it is no plausible number.
    """
    rate = getattr(model, attribute, None)
    if not isinstance(rate, int | float | np.number) or not 1000 <= rate <= 192_000 or rate != int(rate):
        raise ConfigError(f"the model of {name} has the {attribute} {rate!r}; it must be a number of Hz such as 16000")
    return int(rate)


def _digest(module: Any, model: object, weights: Path) -> str:
    """Return a SHA-256 of the files of a module and the weights of a torch module."""
    digest = hashlib.sha256()
    for file in (Path(getattr(module, "__file__", None) or "."), weights):
        if file.is_file():
            digest.update(file.read_bytes())
    if isinstance(model, nn.Module):
        for name, value in model.state_dict().items():
            if isinstance(value, Tensor) and value.device.type != "meta":
                digest.update(name.encode() + value.detach().cpu().to_dense().float().numpy().tobytes())
    return digest.hexdigest()


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
