"""The HEAR 2021 common API, see `unheard.hear`."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.audio.frontend import Statistics
from unheard.embedding.embedder import Embedding, Model, Options
from unheard.embedding.job import Layer, Pool
from unheard.embedding.loading import load_own
from unheard.errors import ConfigError
from unheard.weights.built_in import DEFAULT

Published = Literal["no", "msm-mae", "m2d"]


class HearModel(nn.Module):
    """A model with the attributes of the HEAR API.

    Parameters
    ----------
    model : Model
        The model that computes embeddings.
    options : Options
        Layer, pooling of scenes, hop of timestamps.
    published : {"no", "msm-mae", "m2d"}
        Reproduce a published runtime, to compare with its scores. For both, time steps have equal weight in the mean,
        and timestamps are left edges on a grid stretched over the clip. "msm-mae" also normalises by the mean and
        deviation of the batch (so that a result depends on the batch) and pads the last window to the trained length.

    Raises
    ------
    ConfigError
        When pooling does not give a single vector, ``published`` is unknown, or both are given.
    """

    def __init__(self, model: Model, options: Options, published: Published = "no") -> None:
        super().__init__()
        if options.pool == "none" or published not in get_args(Published):
            raise ConfigError(
                f"pool must be mean, mean+std or max and published one of no, msm-mae, m2d; got {options.pool!r},"
                f" {published!r}"
            )
        if published != "no" and options.pool != "mean":
            raise ConfigError(f"published={published} uses the mean over time; leave pool out; got {options.pool!r}")
        self.encoder = model.learner
        self.model = copy.copy(model)
        self.model.pad_window = published == "msm-mae"
        self.options = options
        self.published = published
        self.sample_rate = model.sample_rate
        self.timestamp_embedding_size = model.row_size(replace(options, frames=True))
        self.scene_embedding_size = model.row_size(replace(options, frames=False))


def load_model(
    model_file_path: str = "",
    *,
    layer: Layer = None,
    pool: Pool = "mean",
    hop: float | None = None,
    published: Published = "no",
    device: str | None = None,
) -> HearModel:
    """Load a run, a model folder or a built-in name; without a path, the built-in ``unheard-tiny``.

    Raises
    ------
    ConfigError
        When pooling does not give a single vector, ``published`` is unknown, or both are given.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return HearModel(load_own(model_file_path or DEFAULT, place), Options(layer, pool, hop), published).eval()


def get_timestamp_embeddings(
    audio: Float[Tensor, "n S"], model: HearModel
) -> tuple[Float[Tensor, "n t D"], Float[Tensor, "n t"]]:
    """Return frame embeddings and their centres in milliseconds.

    A trailing time step centred after the end of the audio is dropped; at least one is kept.
    """
    embeddings = _embed(audio, model)
    frames = torch.stack([torch.from_numpy(e.frames) for e in embeddings])
    length = 1000 * audio.shape[1] / model.sample_rate
    if model.published != "no":
        times = torch.arange(frames.shape[1]) * (length / frames.shape[1])
    else:
        times = torch.from_numpy(embeddings[0].times_ms)
        kept = max(1, int((times <= length).sum()))
        frames, times = frames[:, :kept], times[:kept]
    return frames.to(audio.device), times.float().expand(len(audio), -1).to(audio.device)


def get_scene_embeddings(audio: Float[Tensor, "n S"], model: HearModel) -> Float[Tensor, "n D"]:
    """Return one vector for each clip."""
    embeddings = _embed(audio, model)
    if model.published != "no":
        return torch.stack([torch.from_numpy(e.frames).mean(dim=0) for e in embeddings]).to(audio.device)
    return torch.stack([torch.from_numpy(e.scene) for e in embeddings]).to(audio.device)


def _embed(audio: Float[Tensor, "n S"], model: HearModel) -> list[Embedding]:
    embedder = model.model
    if model.published == "msm-mae":
        spec = embedder.frontend(audio.cpu().float())
        embedder = embedder.with_statistics(Statistics((float(spec.mean()),), (float(spec.std()),)))
    sounds = [(wav.cpu().numpy(), model.sample_rate) for wav in audio.float()]
    return [embedding for _, embedding in embedder.embed_many(sounds, model.options)]
