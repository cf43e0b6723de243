"""The map of a whole clip, computed chunk by chunk, in memory that does not depend on the length of the clip.

A clip of up to `CHUNK` seconds is one chunk. A longer one is cut into chunks of `CHUNK` seconds, each of which begins
`CHUNK` - 2 `OVERLAP` seconds after the one before; the last one may be shorter. Of each chunk, the columns are used
whose centres lie at least `OVERLAP` seconds from its ends, and those at the ends of the clip. Every column but those
has at least `OVERLAP` seconds of context on both sides. A clip shorter than `SHORTEST` is filled up with zeros.
Columns that begin after the end of the clip are left out. The rule is the same for every teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Float16, Float64, Int16
from torch import Tensor
from torch.nn import functional as F

from unheard.audio.framing import INT16_SCALE
from unheard.audio.resample import resample
from unheard.errors import DataError
from unheard.teachers.teacher import FrozenTeacher

CHUNK, OVERLAP, SHORTEST = 10, 1, 1
"""Seconds: the input of CLAP, context, and the shortest input that common teachers accept (our choice)."""

BATCH = 8
"""Chunks of one clip that the teacher gets at once (our choice)."""


@dataclass(frozen=True)
class Chunk:
    """A part of a clip, and the columns of its map that are used."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last one."""
    columns: slice
    times: Float64[np.ndarray, " n"]
    """Centres of these columns in seconds from the start of the clip, rising."""


def chunks_of(teacher: FrozenTeacher, samples: int, sample_rate: int) -> list[Chunk]:
    """Return the chunks of a clip of ``samples`` samples."""
    step, size = (CHUNK - 2 * OVERLAP) * sample_rate, CHUNK * sample_rate
    count = max(1, -(-(samples - 2 * OVERLAP * sample_rate) // step)) if samples > size else 1
    return [_chunk(teacher, number, count, samples, sample_rate) for number in range(count)]


def _chunk(teacher: FrozenTeacher, number: int, count: int, samples: int, sample_rate: int) -> Chunk:
    start = number * (CHUNK - 2 * OVERLAP) * sample_rate
    stop = samples if number == count - 1 else start + CHUNK * sample_rate
    begin = start / sample_rate
    length = -(-max(stop - start, SHORTEST * sample_rate) * teacher.sample_rate // sample_rate)
    centres = begin + np.asarray(teacher.axes(length).columns, np.float64)
    first = np.searchsorted(centres, begin + OVERLAP) if number else 0
    if number < count - 1:
        last = np.searchsorted(centres, begin + CHUNK - OVERLAP)
    else:
        edges = (centres[1:] + centres[:-1]) / 2
        last = 1 + np.searchsorted(edges, samples / sample_rate)
    columns = slice(int(first), max(int(last), int(first) + (number == 0)))
    return Chunk(start, stop, columns, centres[columns])


def clip_maps(
    teacher: FrozenTeacher, wav: Int16[np.ndarray, " S"], sample_rate: int, chunks: list[Chunk]
) -> Iterator[Float[Tensor, "n f C"]]:
    """Yield the columns of each chunk of a stored wave, in order, float32.

    Raises
    ------
    DataError
        When the map differs in size from the axes of the teacher, or holds NaN or infinity.
    """
    device = next((each.device for each in (*teacher.parameters(), *teacher.buffers())), torch.device("cpu"))
    for _, same in groupby(chunks, key=lambda chunk: chunk.stop - chunk.start):
        group = list(same)
        for first in range(0, len(group), BATCH):
            batch = group[first : first + BATCH]
            sound = np.stack([wav[chunk.start : chunk.stop] for chunk in batch])
            inputs = torch.from_numpy(sound).to(device).float() / INT16_SCALE
            inputs = F.pad(inputs, (0, max(0, SHORTEST * sample_rate - inputs.shape[1])))
            maps = teacher(resample(inputs, sample_rate, teacher.sample_rate))
            for chunk, found in zip(batch, maps, strict=True):
                yield found[..., chunk.columns].permute(2, 1, 0)


def rounded(maps: Float[Tensor, "*shape"]) -> Float16[np.ndarray, "*shape"]:
    """Return maps as they are stored.

    Raises
    ------
    DataError
        When a value exceeds the range of float16.
    """
    values = maps.to(torch.float16).cpu().numpy()
    if not np.isfinite(values).all():
        raise DataError(
            "a value of the teacher's map exceeds the range of float16, 65504; use another stage or teacher"
        )
    return np.asarray(values)
