"""Tokens of all layers of labelled clips, as one float16 array of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch import Tensor

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options
from unheard.errors import ConfigError, DataError
from unheard.evaluation.probe.vectors import by_layer, every_layer, sounds_of
from unheard.progress import Track, silent

MOST_BYTES = 2**30  # of the tokens of one embedding; our choice
MOST_COLUMNS, LEAST_COLUMNS = 16, 4  # time columns kept of a clip; fewer are refused; our choice, for CPUs

Tokens = Float16[np.ndarray, "n L N D"]
"""Patches of all layers; those that a clip does not have are NaN."""


@dataclass(frozen=True)
class TokenRows:
    """The tokens of some clips, read in batches.

    Parameters
    ----------
    tokens : Float16[ndarray, "n L N D"]
    clips : Int[ndarray, "m"]
    """

    tokens: Tokens
    clips: Index

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the tokens (B, L, N, D) of some of the clips as float32."""
        return torch.from_numpy(self.tokens[self.clips[index.numpy()]]).float()


def refuse_without_tokens(models: Mapping[str, EmbeddingModel], heads: Sequence[str], accepted: Sequence[str]) -> None:
    """Refuse models without layers for heads that read tokens.

    Raises
    ------
    ConfigError
        With the model, the heads, and the heads that it can have.
    """
    bare = [model.description for model in models.values() if not model.depth]
    if heads and bare:
        raise ConfigError(
            f"--head {', '.join(heads)} needs the patch tokens of all layers, and {bare[0]} has no layers; the heads of"
            f" such a model are {', '.join(accepted)}"
        )


def embed_tokens(model: EmbeddingModel, labels: Labels, description: str, track: Track = silent) -> Tokens:
    """Embed the tokens of all layers of every clip.

    At most `MOST_COLUMNS` time columns of a clip are kept, and fewer if the array would exceed `MOST_BYTES`. Of a
    longer clip, columns at equal distances are kept.

    Raises
    ------
    ConfigError
        When the table has too many clips.
    DataError
        When a value is outside the range of float16.
    """
    found: list[Float16[np.ndarray, "L N D"]] = []
    for _, embedding in model.embed_many(track(sounds_of(labels), len(labels), description), token_options(model)):
        most = most_columns(len(labels), embedding.frames.shape[1])
        frames = by_layer(model, _thinned(embedding.frames, most))
        with np.errstate(over="ignore"):
            found.append(np.moveaxis(frames, 1, 0).reshape(frames.shape[1], -1, frames.shape[3]).astype(np.float16))
        if not np.isfinite(found[-1]).all():
            raise DataError(
                f"{model.description}: the tokens of {labels.paths[len(found) - 1]} exceed the range of float16 (65504)"
                " in which they are stored; leave out the heads cgp, prototypes and attentive"
            )
    layers, _, dim = found[0].shape
    tokens = np.full((len(found), layers, max(each.shape[1] for each in found), dim), np.nan, np.float16)
    for row, each in zip(tokens, found, strict=True):
        row[:, : each.shape[1]] = each
    return tokens


def token_options(model: EmbeddingModel) -> Options:
    """Return the options of the embeddings that hold the tokens of all layers."""
    return Options(every_layer(model), frames=True)


def most_columns(clips: int, width: int) -> int:
    """Return the number of time columns of a clip that are kept.

    Parameters
    ----------
    width : int
        Values of a column, all layers together.

    Raises
    ------
    ConfigError
        When there is room for fewer than `LEAST_COLUMNS`.
    """
    columns = min(MOST_COLUMNS, MOST_BYTES // (2 * width * clips))
    if columns < LEAST_COLUMNS:
        size = MOST_BYTES / 2**30
        raise ConfigError(
            f"the tokens of {clips} clips exceed {size:g} GiB, even with {LEAST_COLUMNS} time columns of a"
            f" clip; use at most {MOST_BYTES // (2 * width * LEAST_COLUMNS)} clips, or leave out the heads cgp,"
            " prototypes and attentive"
        )
    return columns


def _thinned(frames: Float32[np.ndarray, "T W"], most: int) -> Float32[np.ndarray, "t W"]:
    """Return at most ``most`` rows at equal distances, the first and the last one included."""
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).round().astype(np.int64)]
