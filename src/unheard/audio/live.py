"""Chunks of a signal that arrives piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr
from jaxtyping import Float32
from numpy.typing import ArrayLike

from unheard.audio.waveform import checked_rate, from_array


def resampled_chunks(
    chunks: Iterable[ArrayLike], sample_rate: int, target_rate: int
) -> Iterator[Float32[np.ndarray, " s"]]:
    """Yield chunks of one signal as mono at another rate; the last piece follows when the chunks end.

    Parameters
    ----------
    chunks : iterable of array, (s,) or (channels, s)
        Values as in `from_array`; empty chunks are ignored.
    sample_rate, target_rate : int
        Hz.

    Raises
    ------
    AudioError
        When a chunk is not a waveform.
    """
    rate = checked_rate(sample_rate, "a stream")
    resampler = (
        soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ") if rate != target_rate else None
    )
    for chunk in chunks:
        if not np.size(chunk):
            continue
        mono = from_array(chunk, rate)
        piece = mono if resampler is None else resampler.resample_chunk(mono)
        if len(piece):
            yield piece
    if resampler is not None and len(piece := resampler.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield piece
