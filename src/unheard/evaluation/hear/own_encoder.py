"""Models of this library as encoders of an evaluation, and the options of their embeddings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.embedding import hear_api
from unheard.embedding.embedder import Model, Options
from unheard.embedding.hear_api import HearModel, Published
from unheard.embedding.identity import fingerprint
from unheard.embedding.pooling import Pool


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
    layer : int, optional
        Block whose output is used, 1 to depth, or negative from the end. Default: the last, normalised.
    """

    published: Published = "no"
    hop: float | None = None
    pool: Pool = "mean"
    layer: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}


DEFAULT = Runtime()


class OwnEncoder:
    """A model of this library with its `Runtime`; the model is not changed.

    Raises
    ------
    ConfigError
        When the model has no such layer or hop, or the pooling does not return one vector.
    """

    def __init__(self, name: str, model: Model, runtime: Runtime = Runtime()) -> None:
        finest = model.config.frontend.hop_size / model.sample_rate
        frame_hop = finest if runtime.hop is None and runtime.published == "no" else runtime.hop
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
