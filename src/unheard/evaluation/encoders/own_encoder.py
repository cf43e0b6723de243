"""Models that `unheard.embedding` opens as encoders of an evaluation, and the options of their embeddings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.embedding import hear_api
from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.hear_api import HearModel, Published
from unheard.embedding.identity import fingerprint
from unheard.embedding.job import Embedding, Layer, Options, Pool, plain_layer
from unheard.errors import ConfigError


@dataclass(frozen=True)
class Runtime:
    """Options of the embeddings of a model in an evaluation.

    Parameters
    ----------
    published : {"no", "msm-mae", "m2d"}
        Reproduce a published runtime, see `unheard.hear.HearModel`.
    hop : float, optional
        Seconds between time steps. By default, event tasks use the finest hop of the model (one spectrogram frame) and
        scenes one patch; a published runtime uses one patch for both.
    pool : {"mean", "mean+std", "max"}
        Pooling of the time steps of a clip.
    layer : int or sequence of int, optional
        Blocks whose outputs are used, 1 to depth, or negative from the end. Default: the last, normalised.
    """

    published: Published = "no"
    hop: float | None = None
    pool: Pool = "mean"
    layer: Layer = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", plain_layer(self.layer))

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}


DEFAULT = Runtime()


class OwnEncoder:
    """A model of this library with its `Runtime`; the model is not changed.

    Parameters
    ----------
    finest : bool
        Whether timestamps have the finest hop of the model if the runtime has none, or one patch.

    Raises
    ------
    ConfigError
        When the model has no such layer or hop, or the pooling does not return one vector.
    """

    def __init__(self, name: str, model: Model, runtime: Runtime = Runtime(), finest: bool = True) -> None:
        smallest = model.config.frontend.hop_size / model.sample_rate
        frame_hop = smallest if finest and runtime.hop is None and runtime.published == "no" else runtime.hop
        self.name, self.sample_rate = name, model.sample_rate
        self._scenes, self._frames = (
            HearModel(model, Options(runtime.layer, runtime.pool, hop), runtime.published)
            for hop in (runtime.hop, frame_hop)
        )
        self.options: dict[str, Any] = {**asdict(runtime), "event_hop": frame_hop}
        self.identity = f"{fingerprint(model)} {self.options}"
        model.embed(
            (np.zeros(1, np.float32), model.sample_rate), layer=runtime.layer, pool=runtime.pool, hop=runtime.hop
        )

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._scenes.model.device

    def scenes(self, audio: Float[Tensor, "n S"]) -> Tensor:
        """Return one vector for each clip."""
        return hear_api.get_scene_embeddings(audio, self._scenes)

    def timestamps(self, audio: Float[Tensor, "n S"]) -> tuple[Tensor, Tensor]:
        """Return vectors over time, and their times in milliseconds."""
        return hear_api.get_timestamp_embeddings(audio, self._frames)


class ExternalEncoder:
    """A model with frames at its own hop, of which a `Runtime` can choose the layer and the pooling.

    Raises
    ------
    ConfigError
        When another option is given, or the model has no such layer.
    """

    def __init__(self, model: EmbeddingModel, runtime: Runtime = Runtime()) -> None:
        if runtime.published != "no":
            raise ConfigError(f"{model.description} has no runtime of {runtime.published}; leave published out")
        self.name, self.sample_rate = _called(model.description), model.sample_rate
        self.options: dict[str, Any] = runtime.given()
        self._model, self._embedding = model, Options(runtime.layer, runtime.pool, runtime.hop)
        model.check_options(self._embedding)
        self.identity = f"{fingerprint(model)} {self.options}"

    def scenes(self, audio: Float[Tensor, "n S"]) -> Tensor:
        """One vector for each clip."""
        return torch.stack([torch.from_numpy(each.scene) for each in self._embed(audio)])

    def timestamps(self, audio: Float[Tensor, "n S"]) -> tuple[Tensor, Tensor]:
        """Vectors over time, and their times in milliseconds."""
        embeddings = self._embed(audio)
        frames = torch.stack([torch.from_numpy(each.frames) for each in embeddings])
        return frames, torch.stack([torch.from_numpy(each.times_ms) for each in embeddings])

    def _embed(self, audio: Float[Tensor, "n S"]) -> list[Embedding]:
        sounds = [(wav.cpu().numpy(), self.sample_rate) for wav in audio.float()]
        return [embedding for _, embedding in self._model.embed_many(sounds, self._embedding)]


def _called(name: str) -> str:
    """Return the last part of a name such as ``hf:models/ast``, without colons: it names a folder."""
    return Path(name.partition(":")[2]).resolve().name.replace(":", ".")
