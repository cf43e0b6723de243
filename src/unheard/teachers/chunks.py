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
    """A part of a clip, in samples."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last one."""
    is_first: bool
    is_last: bool

    def columns(self, teacher: FrozenTeacher, sample_rate: int) -> tuple[slice, Float64[np.ndarray, " n"]]:
        """Return the columns of its map that are used, and their centres in seconds from the start of the clip, rising.

        A teacher from a HEAR module has computed the map before, otherwise it processes silence to get the times.
        """
        begin = self.start / sample_rate
        length = -(-max(self.stop - self.start, SHORTEST * sample_rate) * teacher.sample_rate // sample_rate)
        centres = begin + np.asarray(teacher.axes(length).columns, np.float64)
        first = 0 if self.is_first else int(np.searchsorted(centres, begin + OVERLAP))
        if self.is_last:
            edges = (centres[1:] + centres[:-1]) / 2
            last = 1 + int(np.searchsorted(edges, self.stop / sample_rate))
        else:
            last = int(np.searchsorted(centres, begin + CHUNK - OVERLAP))
        used = slice(first, max(last, first + self.is_first))
        return used, centres[used]


def chunks_of(samples: int, sample_rate: int) -> list[Chunk]:
    """Return the chunks of a clip of ``samples`` samples."""
    step, size = (CHUNK - 2 * OVERLAP) * sample_rate, CHUNK * sample_rate
    last = max(1, -(-(samples - 2 * OVERLAP * sample_rate) // step)) - 1 if samples > size else 0
    return [
        Chunk(number * step, samples if number == last else number * step + size, number == 0, number == last)
        for number in range(last + 1)
    ]


def clip_maps(
    teacher: FrozenTeacher, wav: Int16[np.ndarray, " S"], sample_rate: int, chunks: list[Chunk]
) -> Iterator[tuple[Float[Tensor, "n f C"], Float64[np.ndarray, " n"]]]:
    """Yield the used columns of each chunk of a stored wave, in order, float32, and their centres in seconds.

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
                used, times = chunk.columns(teacher, sample_rate)
                yield found[..., used].permute(2, 1, 0), times


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
