"""Clips of a split in batches, as the encoder gets them: resampled, mono, cropped and padded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from unheard.evaluation.xares.resampling import mono_at
from unheard.evaluation.xares.shards import Sample, read_samples

Item = TypeVar("Item")


@dataclass(frozen=True)
class Clip:
    """A clip or a crop of one.

    Parameters
    ----------
    key : str
        Key of its sample.
    wav : Float32[ndarray, "S"]
    record : object
        Content of the json.
    """

    key: str
    wav: Float32[np.ndarray, " S"]
    record: Any


def read_clips(
    shards: Iterable[Path], rate: int, crop: float | None, skip: Callable[[str], None]
) -> Iterator[list[Clip]]:
    """Yield the crops of each sample, or the whole of it."""
    for shard in shards:
        for sample in read_samples(shard, skip):
            yield crops(sample, rate, crop)


def crops(sample: Sample, rate: int, seconds: float | None) -> list[Clip]:
    """Return consecutive crops from the start, without the rest; a short clip is padded with zeros at its end."""
    wav = mono_at(sample.channels, sample.rate, rate)
    if seconds is None:
        return [Clip(sample.key, wav, sample.record)]
    size = int(seconds * rate)
    if len(wav) < size:
        wav = np.pad(wav, (0, size - len(wav)))
    return [Clip(sample.key, wav[at : at + size], sample.record) for at in range(0, len(wav) - size + 1, size)]


def batches(clips: Iterable[list[Clip]], size: int) -> Iterator[list[Clip]]:
    """Yield batches over the stream of crops, across samples and shards; the last one may be smaller."""
    yield from chunks((clip for several in clips for clip in several), size)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of ``size`` items; the last one may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def padded(clips: list[Clip]) -> Float[Tensor, "B S"]:
    """Return clips with zeros at the end, as long as the longest."""
    longest = max(len(clip.wav) for clip in clips)
    wav = np.zeros((len(clips), longest), np.float32)
    for row, clip in zip(wav, clips, strict=True):
        row[: len(clip.wav)] = clip.wav
    return torch.from_numpy(wav)


def equal_lengths(clips: list[Clip]) -> Iterator[list[int]]:
    """Yield the positions of the clips of each length, so that none is padded."""
    lengths = np.array([len(clip.wav) for clip in clips])
    for length in np.unique(lengths):
        yield np.flatnonzero(lengths == length).tolist()
