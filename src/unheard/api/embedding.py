"""Embedding: models, tables of embeddings, and their checksums."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Literal

from unheard.api.options import EmbedOptions, documented
from unheard.embedding.bulk import BulkReport, embed_segments_table, embed_table
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options, Pool
from unheard.embedding.loading import load, loaded
from unheard.embedding.search import search
from unheard.embedding.verify import verify
from unheard.errors import ConfigError
from unheard.progress import Track, silent

__all__ = ["embed", "load", "search", "verify"]


@documented(EmbedOptions)
def embed(
    model: EmbeddingModel | str | Path,
    audio: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    frames: bool = False,
    layer: int | None = None,
    pool: Pool = "mean",
    window: float | None = None,
    hop: float | None = None,
    segments: str | Path | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    precision: Precision = "float32",
    workers: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed files and folders into a ``.parquet``, ``.npz`` or ``.csv`` table, one row per file; see `embed_table`.

    Parameters
    ----------
    model : EmbeddingModel, path or str
        A loaded model, or what `unheard.load` accepts.
    audio : path, or sequence of paths
        Sound files, archives (``.tar``, ``.parquet``), their members as ``ARCHIVE/MEMBER``, and folders; None with
        ``segments``.
    out : path
        The table.
    device : str
        Device of a model given by name; a loaded model keeps its device.
    resume, overwrite : bool
        Continue an interrupted job, or replace an existing table; otherwise an existing table is refused.
    track : Track
        Progress over the files.

    Returns
    -------
    BulkReport
        Numbers of rows and files, and the skipped files with the reason.

    Examples
    --------
    >>> import unheard
    >>> unheard.embed("runs/first", "my_audio/", out="emb.parquet", window=3.0, hop=1.5)  # doctest: +SKIP
    """
    sources = [audio] if isinstance(audio, str | Path) else list(audio or ())
    if bool(sources) == (segments is not None):
        raise ConfigError("give sound files or folders, or --segments with a table of their parts, and not both")
    opened = copy(loaded(model, device, precision))  # the caller's model keeps its speed
    opened.set_speed(opened.workers if workers is None else workers, batch_size or opened.batch_size)
    chosen = Options(layer, pool, hop, frames, window=window, on_error=on_error)
    if segments is not None:
        return embed_segments_table(opened, segments, out, chosen, resume=resume, overwrite=overwrite, track=track)
    return embed_table(opened, sources, out, chosen, resume=resume, overwrite=overwrite, track=track)
