"""Frames of a signal while it arrives.

    chunks -> wav at the rate of the model -> spec -> windows, at every offset -> encoder -> frames in order of time

A frame is given when the windows that could hold earlier frames are complete. It equals that of `Model.embed` for the
whole signal, up to rounding, also in the last, shorter window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import soxr
from jaxtyping import Float32
from numpy.typing import ArrayLike

from unheard.audio.waveform import checked_rate, from_array
from unheard.embedding.job import EmbeddingAccumulator, LiveFrames, Options

if TYPE_CHECKING:
    from unheard.embedding.embedder import Model


def stream_frames(
    model: Model, chunks: Iterable[ArrayLike], sample_rate: int, options: Options
) -> Iterator[LiveFrames]:
    """Yield the frames of a signal in order of time; see `Model.stream`."""
    offsets, options = model.offsets(options.hop), replace(options, frames=True)
    model.check_options(options)
    pieces = resampled_chunks(chunks, sample_rate, model.sample_rate)
    if (first := next(pieces, None)) is None:
        return
    job = EmbeddingAccumulator((np.zeros(1), sample_rate), options, model.sample_rate, model.row_size(options))
    for windows, final in model.cut(chain([first], pieces), offsets):
        model.encode([(job, window) for window in windows], options)
        frames, times = job.take(1000 * model.frontend.frame_centre(final))
        if len(frames):
            yield frames, times


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
