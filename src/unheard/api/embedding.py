"""Embedding: models, tables of embeddings, and their checksums."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Literal

from unheard.api.options import EmbedOptions, SpreadOptions, documented
from unheard.audio.standard_input import is_standard_input
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Layer, Options, Pool
from unheard.embedding.loading import load, loaded
from unheard.embedding.search import search
from unheard.embedding.segments import read_segments
from unheard.embedding.table_jobs.estimate import estimate_table
from unheard.embedding.table_jobs.inputs import checked_options, expand
from unheard.embedding.table_jobs.report import BulkReport
from unheard.embedding.table_jobs.run import TableJob, embed_job
from unheard.embedding.verify import verify
from unheard.errors import ConfigError
from unheard.jobs.addressed import tasks_at_addresses
from unheard.jobs.engines import Engine, Spread
from unheard.jobs.estimate import Estimate
from unheard.outputs import refuse_other_kind
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded

__all__ = ["embed", "load", "plan_embed", "search", "verify"]


@documented(SpreadOptions)
@documented(EmbedOptions)
@tasks_at_addresses
@uploaded("out")
def embed(
    model: EmbeddingModel | str | Path,
    audio: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    frames: bool = False,
    layer: Layer = None,
    pool: Pool = "mean",
    window: float | None = None,
    hop: float | None = None,
    segments: str | Path | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    precision: Precision = "float32",
    workers: int | Literal["auto"] = "auto",
    batch_size: int | Literal["auto"] = "auto",
    engine: Engine = "local",
    processes: int | None = None,
    task: str | None = None,
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
        Sound files, archives (``.tar``, ``.parquet``, ``.h5``), their members as ``ARCHIVE/MEMBER``, and folders, here
        or at an address such as ``s3://bucket/folder``; None with ``segments``.
    out : path
        The table; at an address, it is written locally first, then uploaded.
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
    chosen = Options(layer, pool, hop, frames, window=window, on_error=on_error)
    opened = _opened(model, device, precision, workers, batch_size)
    job = _job(opened, audio, segments, out, chosen, _device(model, device), resume)
    return embed_job(job, Spread(engine, processes, task), resume=resume, overwrite=overwrite, track=track)


@documented(SpreadOptions)
@documented(EmbedOptions)
def plan_embed(
    model: EmbeddingModel | str | Path,
    audio: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    frames: bool = False,
    layer: Layer = None,
    pool: Pool = "mean",
    window: float | None = None,
    hop: float | None = None,
    segments: str | Path | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    precision: Precision = "float32",
    workers: int | Literal["auto"] = "auto",
    batch_size: int | Literal["auto"] = "auto",
    engine: Engine = "local",
    processes: int | None = None,
    task: str | None = None,
    device: str = "auto",
) -> Estimate:
    """Measure what `embed` with the same arguments will need, on a sample of at most 64 sounds; nothing is written.

    Parameters
    ----------
    model, audio, out, device
        As of `embed`; ``out`` selects the format.

    Returns
    -------
    Estimate
        Numbers of sounds and tasks, size of the table, and hours.
    """
    chosen = Options(layer, pool, hop, frames, window=window, on_error=on_error)
    opened = _opened(model, device, precision, workers, batch_size)
    job = _job(opened, audio, segments, out, chosen, _device(model, device))
    return estimate_table(job, Spread(engine, processes, task))


def _opened(
    model: EmbeddingModel | str | Path,
    device: str,
    precision: Precision,
    workers: int | Literal["auto"],
    batch_size: int | Literal["auto"],
) -> EmbeddingModel:
    """Return a loaded model with a speed of its own; the model of the caller keeps its speed."""
    opened = copy(loaded(model, device, precision))
    opened.set_speed(
        opened.workers if workers == "auto" else workers, opened.batch_size if batch_size == "auto" else batch_size
    )
    return opened


def _device(model: EmbeddingModel | str | Path, device: str) -> str:
    """Return the device of a model in other processes."""
    return str(model.device) if isinstance(model, EmbeddingModel) else device


def _job(
    model: EmbeddingModel,
    audio: str | Path | Sequence[str | Path] | None,
    segments: str | Path | None,
    out: str | Path,
    options: Options,
    device: str,
    resume: bool = False,
) -> TableJob:
    """Return the job of a call: the files or segments, and complete options."""
    sources = [audio] if isinstance(audio, str | Path) else list(audio or ())
    if bool(sources) == (segments is not None):
        raise ConfigError("give sound files or folders, or --segments with a table of their parts, and not both")
    refuse_other_kind(out, "file")
    complete = checked_options(options, segments is not None)
    if segments is not None:
        return TableJob(model, read_segments(segments), Path(out), complete, device)
    files = expand(sources)
    if resume and any(map(is_standard_input, files)):
        raise ConfigError("the standard input cannot be continued; leave --resume out, or record it to a file first")
    return TableJob(model, files, Path(out), complete, device)
