"""Whatever turns batches of audio into embeddings, seen through one face: our models, HEAR modules, X-ARES encoders, plain log-mel."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import unheard.hear
from unheard.audio.framing import Frontend
from unheard.audio.frontend import LogMel
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.errors import ConfigError, DataError
from unheard.evaluation.foreign import imported, of_others
from unheard.hear import HearModel, load_model
from unheard.weights.built_in import random_like
from unheard.weights.checkpoint import SavedModel

BASELINES = ("random", "log-mel")  # every model brings its own, so that several of one name may be in one evaluation
BLOCK_MS = 50.0  # log-mel frames are summarised over the hop the HEAR API recommends at most

# (n, D), and (n, t, D) with (n, t). Other people's code makes them, so `embeddings` checks their shapes and says whose they are.
Scenes = Tensor
Frames = tuple[Tensor, Tensor]


@runtime_checkable
class Encoder(Protocol):
    """What an evaluation needs of a model.

    Parameters
    ----------
    name : str
        What it is called in results, and its folders are; see `place`.
    identity : str
        Changes when the embeddings would.
    sample_rate : int
        Hz.
    """

    name: str
    identity: str
    sample_rate: int

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """One vector for each clip."""
        ...

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Vectors over time, and their times in milliseconds."""
        ...


def place(encoder: Encoder) -> str:
    """Name of an encoder's folders: its own, and a baseline's with eight digits of its identity."""
    if encoder.name not in BASELINES:
        return encoder.name
    return f"{encoder.name}-{hashlib.sha256(encoder.identity.encode()).hexdigest()[:8]}"


class HearEncoder:
    """A model behind the functions of the HEAR common API.

    Parameters
    ----------
    module : module
        Has ``get_scene_embeddings`` and ``get_timestamp_embeddings``.
    model : object
        What its ``load_model`` gave.
    device : str, optional
        Where a torch module is moved, and audio for it. A model of another kind, or without a device, stays and is given CPU audio.
    """

    def __init__(self, name: str, module: Any, model: Any, identity: str, device: str | None = None) -> None:
        self.name, self.identity = name, identity
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
            raise DataError(f"get_timestamp_embeddings of {self.name} gave {type(found).__name__}; it must give embeddings and times")
        return _tensor(found[0]), _tensor(found[1])


class XaresEncoder:
    """A module with ``sampling_rate`` and ``hop_size_in_ms`` whose forward gives (n, S) -> (n, t, D), as X-ARES asks for.

    A clip is the mean over time; the k-th vector is centred (k + 1/2) hops after the start.
    """

    def __init__(self, name: str, module: nn.Module, device: str = "cpu") -> None:
        self.name, self.identity = name, name
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


class LogMelEncoder:
    """The baseline without learning: mean and deviation of each mel band over a clip, or over blocks of about `BLOCK_MS`."""

    def __init__(self, frontend: Frontend) -> None:
        self.name, self.sample_rate = "log-mel", frontend.sample_rate
        bands = [frontend.mel, frontend.window, frontend.compress(torch.tensor([0.0, 1.0]))]
        digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in bands)).hexdigest()
        self.identity = f"log-mel {frontend.framing} {digest}"
        self._frontend = frontend
        self._block = max(1, round(BLOCK_MS / 1000 * frontend.sample_rate / frontend.hop_size))

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Mean and deviation over the clip, (n, 2 F)."""
        spec = self._frontend(audio)
        return torch.cat([spec.mean(dim=-1), spec.std(dim=-1, correction=0)], dim=-1)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Mean and deviation over blocks, and the blocks' centres."""
        spec = self._frontend(audio)
        blocks = [block for block in spec.split(self._block, dim=-1) if block.shape[-1] == self._block] or [spec]
        frames = torch.stack([torch.cat([each.mean(dim=-1), each.std(dim=-1, correction=0)], dim=-1) for each in blocks], dim=1)
        last = blocks[0].shape[-1] - 1
        first = (self._frontend.frame_centre(0) + self._frontend.frame_centre(last)) / 2
        times = 1000 * (first + torch.arange(len(blocks)) * self._block * self._frontend.hop_size / self.sample_rate)
        inside = max(1, int((times <= 1000 * audio.shape[1] / self.sample_rate).sum()))
        return frames[:, :inside], times[:inside].expand(len(frames), -1)


class Stored:
    """Embeddings that are there already, one folder a task, as heareval and this library write them.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.identity, self.sample_rate = folder, folder.resolve().name, str(folder.resolve()), 0

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Nothing can be embedded."""
        raise ConfigError(f"{self.folder} holds embeddings and no model")

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Nothing can be embedded."""
        raise ConfigError(f"{self.folder} holds embeddings and no model")


def encoders(model: Model | str | Path, device: str = "cpu") -> list[Encoder]:
    """What is evaluated: the model, an untrained one, and log-mel.

    Parameters
    ----------
    model : Model, path or str
        A loaded model, a run or model folder or built-in name, ``hear:MODULE`` or ``hear:MODULE:WEIGHTS`` for a module with the HEAR
        API, ``xares:MODULE:CLASS`` for an X-ARES encoder, or ``embeddings:FOLDER`` for embeddings that are there.
    device : str
        Where a model that is given by name embeds, and the untrained one beside it.

    Returns
    -------
    list of Encoder
        For our own models the untrained one has the same architecture, front end and statistics. Beside other modules it is
        ``random-tiny``; stored embeddings stand alone.

    Raises
    ------
    ConfigError
        When a module cannot be imported or lacks what the interface asks for.
    """
    return list(_each(model, device))


def encoder(model: Model | str | Path, device: str = "cpu") -> Encoder:
    """The first of `encoders` alone; the others are not made."""
    return next(_each(model, device))


def _each(model: Model | str | Path, device: str) -> Iterator[Encoder]:
    kind, colon, name = model.partition(":") if isinstance(model, str) else ("", "", "")
    if colon and kind in ("hear", "xares"):
        yield _hear(name, device) if kind == "hear" else _xares(name, device)
        yield HearEncoder("random", unheard.hear, load_model("random-tiny", device=device), "random-tiny")
        yield LogMelEncoder(LogMel())
    elif colon and kind == "embeddings":
        yield Stored(Path(name))
    else:
        yield from _ours(model, device)


def _ours(model: Model | str | Path, device: str) -> Iterator[Encoder]:
    ours = model if isinstance(model, Model) else load(model, device)
    name = "model" if isinstance(model, Model) else Path(model).resolve().name if Path(model).exists() else str(model)
    yield _behind_hear(name, ours)
    saved = SavedModel(ours.learner, ours.config, ours.statistics, ours.provenance)
    yield _behind_hear("random", Model(random_like(saved, seed=0), ours.device.type))
    yield LogMelEncoder(ours.frontend)


def fingerprint(model: Model) -> str:
    """A digest of the weights, statistics and front end that a model embeds with."""
    digest = hashlib.sha256(repr((model.statistics, model.config.frontend)).encode())
    for value in model.encoder.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _behind_hear(name: str, model: Model) -> Encoder:
    return HearEncoder(name, unheard.hear, HearModel(model, Options()), fingerprint(model))


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
        raise ConfigError(f"the model of {name} has the hop_size_in_ms {hop!r}; it must be a number of milliseconds such as 40")
    return float(hop)


def _hear(text: str, device: str) -> Encoder:
    name, _, weights = text.partition(":")
    module = imported(name)
    wanted = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    if missing := [each for each in wanted if not callable(getattr(module, each, None))]:
        raise ConfigError(f"{name} has no {missing[0]}; a HEAR module has {', '.join(wanted)}")
    model = of_others(lambda: module.load_model(weights) if weights else module.load_model(), f"load_model of {name}")
    called = f"{name}.{_called(Path(weights))}" if weights else name
    return of_others(lambda: HearEncoder(called, module, model, text, device), f"moving {name} to {device}")


def _called(weights: Path) -> str:
    """Weights in the name of an encoder: a file without its ending, or the last part of what else a module takes."""
    return weights.stem if weights.is_file() else weights.name


def _xares(text: str, device: str) -> Encoder:
    name, _, wanted = text.partition(":")
    found = {
        key: value
        for key, value in vars(imported(name)).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and (key == wanted if wanted else value.__module__ == name)
    }
    if len(found) != 1:
        raise ConfigError(f"{name} offers {len(found)} encoders{' named ' + wanted if wanted else ''}; write xares:{name}:CLASS")
    kind = next(iter(found.values()))
    encoder = of_others(kind, f"{kind.__name__} of {name}")
    if missing := [each for each in ("sampling_rate", "hop_size_in_ms", "output_dim") if not hasattr(encoder, each)]:
        raise ConfigError(f"the encoder of {name} has no {missing[0]}; X-ARES asks for it")
    return of_others(lambda: XaresEncoder(text.replace(":", "."), encoder, device), f"moving {name} to {device}")
