"""Options of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class EmbedOptions:
    """Options of the embeddings.

    Parameters
    ----------
    frames
        Write one row per time step instead of one row per file.
    layer
        Output of this block, 1 to depth, or negative from the end; may be repeated, and the outputs are concatenated.
        Default: the last block, normalised.
    pool
        Pooling of time steps into one vector.
    window
        Write one row per part of this many seconds instead of one row per file, with the columns start and end.
    hop
        Seconds between the starts of windows. Default: the window. With --frames, seconds between time steps, which
        must divide the duration of a patch. Default: one patch.
    segments
        Table with the columns path, start, end in seconds, instead of AUDIO: one row per row of it. Paths are relative
        to it.
    on_error
        skip: list sounds that cannot be read, and continue. raise: stop at the first one; rows until then are kept for
        --resume.
    precision
        Precision of the matrix products of the encoder. bf16 is faster on processors that have it, and
        slower on others: see unheard doctor.
    workers
        Threads that read sounds ahead; auto: one per core, at most 16.
    batch_size
        Windows that are encoded at once; auto: 16 on a CPU, 256 on a GPU.
    """

    frames: bool = False
    layer: tuple[int, ...] | None = None
    pool: Literal["mean", "mean+std", "max", "none"] = "mean"
    window: float | None = None
    hop: float | None = None
    segments: Path | None = None
    on_error: Literal["skip", "raise"] = "skip"
    precision: Literal["float32", "bf16"] = "float32"
    workers: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
