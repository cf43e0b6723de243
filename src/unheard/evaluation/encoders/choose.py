"""Whatever turns batches of audio into embeddings, seen through one face: our models, HEAR modules, X-ARES encoders,
plain log-mel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unheard.audio.framing import Frontend
from unheard.audio.frontend import LogMel, band_statistics
from unheard.embedding import hear_api
from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.external import ExternalModel
from unheard.embedding.loading import loaded, name_of, own
from unheard.errors import ConfigError
from unheard.evaluation.encoders.own_encoder import ExternalEncoder, OwnEncoder, Runtime
from unheard.evaluation.encoders.xares_encoder import xares_encoder
from unheard.teachers.hear_module import Frames, HearEncoder, Scenes, hear_encoder
from unheard.weights.built_in import reinitialised
from unheard.weights.checkpoint import SavedModel

BASELINES = ("random", "log-mel")  # every model brings its own, so that several of one name may be in one evaluation
BLOCK_MS = 50.0  # log-mel frames are summarised over the hop the HEAR API recommends at most


@runtime_checkable
class Encoder(Protocol):
    """Interface of a model in an evaluation.

    Parameters
    ----------
    name : str
        What it is called in results, and its folders are; see `folder_name`.
    identity : str
        Changes when the embeddings would.
    sample_rate : int
        Hz.
    options : dict
        How it embeds, as the scores record it; empty where there is no choice.
    """

    name: str
    identity: str
    sample_rate: int
    options: dict[str, Any]

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return one vector per clip."""
        ...

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return vectors over time, and their times in milliseconds."""
        ...


def folder_name(encoder: Encoder) -> str:
    """Return the folder name of an encoder; baselines have eight digits of their hash appended."""
    if encoder.name not in BASELINES:
        return encoder.name
    return f"{encoder.name}-{hashlib.sha256(encoder.identity.encode()).hexdigest()[:8]}"


class LogMelEncoder:
    """The baseline without learning: mean and deviation of each mel band over a clip, or over blocks of about
    `BLOCK_MS`.
    """

    def __init__(self, frontend: Frontend) -> None:
        self.name, self.sample_rate, self.options = "log-mel", frontend.sample_rate, dict[str, Any]()
        bands = [frontend.mel, frontend.window, frontend.compress(torch.tensor([0.0, 1.0]))]
        digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in bands)).hexdigest()
        self.identity = f"log-mel {frontend.framing} {digest}"
        self._frontend = frontend
        self._block = max(1, round(BLOCK_MS / 1000 * frontend.sample_rate / frontend.hop_size))

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Return mean and deviation over the clip, (n, 2 F)."""
        spec = self._frontend(audio)
        return band_statistics(spec)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Return mean and deviation over blocks, and the centres of the blocks."""
        spec = self._frontend(audio)
        blocks = [block for block in spec.split(self._block, dim=-1) if block.shape[-1] == self._block] or [spec]
        frames = torch.stack([band_statistics(each) for each in blocks], dim=1)
        last = blocks[0].shape[-1] - 1
        first = (self._frontend.frame_centre(0) + self._frontend.frame_centre(last)) / 2
        times = 1000 * (first + torch.arange(len(blocks)) * self._block * self._frontend.hop_size / self.sample_rate)
        inside = max(1, int((times <= 1000 * audio.shape[1] / self.sample_rate).sum()))
        return frames[:, :inside], times[:inside].expand(len(frames), -1)


class PrecomputedEmbeddings:
    """Embeddings that are there already, one folder a task, as heareval and this library write them.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.identity, self.sample_rate = (
            folder,
            folder.resolve().name,
            str(folder.resolve()),
            0,
        )
        self.options: dict[str, Any] = {}

    def scenes(self, audio: Float[Tensor, "n S"]) -> Scenes:
        """Nothing can be embedded."""
        raise ConfigError(f"{self.folder} holds embeddings and no model")

    def timestamps(self, audio: Float[Tensor, "n S"]) -> Frames:
        """Nothing can be embedded."""
        raise ConfigError(f"{self.folder} holds embeddings and no model")


def encoders(
    model: EmbeddingModel | str | Path, device: str = "cpu", runtime: Runtime = Runtime(), finest: bool = True
) -> list[Encoder]:
    """Return the encoders to evaluate: the model, a random encoder and log-mel.

    Parameters
    ----------
    model : Model, path or str
        A loaded model, a run or model folder or built-in name, ``hf:DIR`` for the folder of a Hugging Face audio
        encoder, ``hear:MODULE`` or ``hear:MODULE:WEIGHTS`` for a module with the HEAR API, ``xares:MODULE:CLASS`` for
        an X-ARES encoder, or ``embeddings:FOLDER`` for embeddings that are there.
    device : str
        Where a model that is given by name embeds, and the untrained one with it.
    runtime : Runtime
        How models of this library embed. Options that are given are passed on to ``load_model`` of a HEAR module.
    finest : bool
        Whether timestamps of our models have their finest hop by default, or one patch.

    Returns
    -------
    list of Encoder
        For our own models the untrained one has the same architecture, front end, statistics and runtime. For other
        modules it is ``random-tiny``; stored embeddings stand alone.

    Raises
    ------
    ConfigError
        When a module cannot be imported or lacks what the interface asks for, or a model does not have an option that
        is given.
    """
    return list(_each(model, device, runtime, finest))


def encoder(
    model: EmbeddingModel | str | Path, device: str = "cpu", runtime: Runtime = Runtime(), finest: bool = True
) -> Encoder:
    """Return the first of `encoders`, without building the others."""
    return next(_each(model, device, runtime, finest))


def _each(model: EmbeddingModel | str | Path, device: str, runtime: Runtime, finest: bool) -> Iterator[Encoder]:
    kind, colon, name = model.partition(":") if isinstance(model, str) else ("", "", "")
    if colon and kind in ("xares", "embeddings") and (given := runtime.given()):
        raise ConfigError(
            f"{model} takes no {', '.join(given)}: an X-ARES encoder and stored embeddings have no options; leave"
            " them out"
        )
    if isinstance(model, ExternalModel) or (colon and kind in ("hf", "hear", "xares")):
        if kind == "hear":
            yield hear_encoder(name, device, runtime.given())
        elif kind == "xares":
            yield xares_encoder(name, device)
        else:
            yield ExternalEncoder(loaded(model, device), runtime)
        yield HearEncoder("random", hear_api, hear_api.load_model("random-tiny", device=device), "random-tiny")
        yield LogMelEncoder(LogMel())
    elif colon and kind == "embeddings":
        yield PrecomputedEmbeddings(Path(name))
    else:
        yield from _ours(model, device, runtime, finest)


def _ours(model: EmbeddingModel | str | Path, device: str, runtime: Runtime, finest: bool) -> Iterator[Encoder]:
    ours, name = own(model, device), "model"
    if not isinstance(model, EmbeddingModel):
        name = name_of(model)
    yield OwnEncoder(name, ours, runtime, finest)
    saved = SavedModel(ours.learner, ours.config, ours.statistics, ours.provenance)
    yield OwnEncoder(
        "random", Model(reinitialised(saved, seed=0), ours.device.type, precision=ours.precision), runtime, finest
    )
    yield LogMelEncoder(ours.frontend)
