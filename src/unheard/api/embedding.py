"""Embedding: models, tables of embeddings, and their checksums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unheard.embedding.bulk import BulkReport, embed_table
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options
from unheard.embedding.loading import load, loaded
from unheard.embedding.verify import verify
from unheard.progress import Track, silent

__all__ = ["embed", "load", "verify"]


def embed(
    model: EmbeddingModel | str | Path,
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed files and folders into a ``.parquet``, ``.npz`` or ``.csv`` table, one row per file; see `embed_table`."""
    sources = [audio] if isinstance(audio, str | Path) else audio
    return embed_table(loaded(model), sources, out, options, resume=resume, overwrite=overwrite, track=track)
