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
from numpy.typing import ArrayLike

from unheard.audio.live import resampled_chunks
from unheard.embedding.job import EmbeddingAccumulator, LiveFrames, Options
from unheard.embedding.windows import cut_live

if TYPE_CHECKING:
    from unheard.embedding.embedder import Model


def stream_frames(
    model: Model, chunks: Iterable[ArrayLike], sample_rate: int, options: Options
) -> Iterator[LiveFrames]:
    """Yield the frames of a signal in order of time; see `Model.stream`."""
    offsets, prepared = model.offsets(options.hop), model.prepared(replace(options, frames=True))
    pieces = resampled_chunks(chunks, sample_rate, model.sample_rate)
    if (first := next(pieces, None)) is None:
        return
    blocks = model.frontend.stream(chain([first], pieces))
    job = EmbeddingAccumulator((np.zeros(1), sample_rate), prepared, model.sample_rate, model.row_size(prepared))
    for windows, final in cut_live(blocks, model.grid.frames, offsets):
        model.encode([(job, window) for window in windows], prepared)
        frames, times = job.take(1000 * model.frontend.frame_centre(final))
        if len(frames):
            yield frames, times
