"""Embedding: models, tables of embeddings, and their checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unheard.embedding.bulk import BulkReport, embed_segments_table, embed_table
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options
from unheard.embedding.loading import load, loaded
from unheard.embedding.search import search
from unheard.embedding.verify import verify
from unheard.errors import ConfigError

__all__ = ["embed", "load", "search", "verify"]


def embed(
    model: EmbeddingModel | str | Path,
    audio: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    options: Options | None = None,
    *,
    window: float | None = None,
    hop: float | None = None,
    segments: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> BulkReport:
    """Embed files and folders into a ``.parquet``, ``.npz`` or ``.csv`` table, one row per file; see `embed_table`.

    Parameters
    ----------
    window : float, optional
        Seconds of audio in a row: one row for each part of a file instead of one for the file.
    hop : float, optional
        Seconds from the start of one window to the next. Default: the window.
    segments : path, optional
        A CSV with the columns path, start and end, instead of ``audio``: one row for each of its rows.

    Examples
    --------
    >>> import unheard
    >>> unheard.embed("runs/first", "my_audio/", out="emb.parquet", window=3.0, hop=1.5)  # doctest: +SKIP
    """
    chosen = options or Options(frames=False)
    chosen = replace(chosen, window=chosen.window if window is None else window, hop=chosen.hop if hop is None else hop)
    if (audio is None) == (segments is None):
        raise ConfigError("give sound files or folders, or segments with a CSV of their parts, and not both")
    if segments is not None:
        return embed_segments_table(loaded(model), segments, out, chosen, resume=resume, overwrite=overwrite)
    assert audio is not None
    sources = [audio] if isinstance(audio, str | Path) else audio
    return embed_table(loaded(model), sources, out, chosen, resume=resume, overwrite=overwrite)
