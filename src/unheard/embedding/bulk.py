"""Embed files and folders into a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from pathlib import Path
from typing import TypeVar

from unheard.audio.standard_input import is_standard_input
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import identity
from unheard.embedding.job import Embedding, Options, Sound
from unheard.embedding.segments import (
    Segment,
    SegmentRow,
    cut_files,
    embed_segments,
    load_segment,
    read_segments,
    windows_ahead,
)
from unheard.embedding.table_jobs.audio_progress import AudioProgress
from unheard.embedding.table_jobs.inputs import checked_options, expand, rows_left, table_identity
from unheard.embedding.table_jobs.report import BulkReport, Skipped
from unheard.embedding.table_jobs.spool import FrameSpool
from unheard.embedding.tables import TableWriter, absolute
from unheard.errors import AudioError, ConfigError
from unheard.progress import ProgressCounter, Track, silent
from unheard.read_ahead import read_ahead

Source = TypeVar("Source")


def embed_table(
    model: EmbeddingModel,
    sources: Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed files and folders into one table.

    Rows are written to disk as they come, in constant memory. Unreadable files are skipped and listed.

    Parameters
    ----------
    out : path
        ``.parquet``, ``.npz`` or ``.csv``.
    options : Options, optional
        With ``frames`` the table has one row a frame, with ``window`` one row a window, without them (the default) one
        row a file.

    Raises
    ------
    DataError
        When there is no audio, or none of it can be read.
    ConfigError
        When ``out`` exists and neither ``resume`` nor ``overwrite`` is given, or ``resume`` finds rows of another model
        or other options.
    """
    files = expand(sources)
    if resume and any(map(is_standard_input, files)):
        raise ConfigError("the standard input cannot be continued; leave --resume out, or record it to a file first")
    return embed_files(
        model, files, Path(out), options or Options(frames=False), resume=resume, overwrite=overwrite, track=track
    )


def embed_files(
    model: EmbeddingModel,
    files: list[str],
    out: Path,
    options: Options,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed different files into one table; parameters and errors as in `embed_table`."""
    options = checked_options(options, segments=False)
    if options.window is not None:
        return _embed_windows(model, files, out, options, resume, overwrite, track)
    skipped, embedded = Skipped(options), 0
    with TableWriter(out, identity(model, options), model.row_size(options), resume, overwrite) as table:
        todo, earlier = _todo(files, table, model.sample_rate, skipped)
        with AudioProgress(todo, track, table) as done:
            for file, piece, last in _embeddings(model, table, todo, options, skipped, done):
                embedded += last
                if options.frames:
                    table.add(str(file), piece.frames, last, seconds=piece.seconds, time_ms=piece.times_ms)
                else:
                    table.add(str(file), piece.scene, seconds=piece.seconds)
        if not embedded and not table.done():
            skipped.refuse(f"{len(files)} files")
        rows = table.finish()
    return BulkReport(out, rows, embedded, earlier, skipped.all)


def embed_segments_table(
    model: EmbeddingModel,
    segments: str | Path,
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed the rows of a CSV with the columns path, start and end into one table, one row a segment.

    Parameters and errors as in `embed_table`. ``embedded`` and ``resumed`` of the report count segments.
    """
    return embed_rows(
        model,
        read_segments(segments),
        Path(out),
        options or Options(frames=False),
        resume=resume,
        overwrite=overwrite,
        track=track,
    )


def embed_rows(
    model: EmbeddingModel,
    todo: list[SegmentRow],
    out: Path,
    options: Options,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed different segments into one table; parameters and errors as in `embed_segments_table`."""
    options, skipped, embedded = checked_options(options, segments=True), Skipped(options), 0
    with TableWriter(out, table_identity(model, options, True), model.row_size(options), resume, overwrite) as table:
        stored, fatal = table.stored_segments(), table.fatal(model.sample_rate)
        skipped.found.update(fatal)
        dead = set(map(absolute, fatal))
        left = [row for row in rows_left(todo, stored) if absolute(row.path) not in dead]

        def load(row: SegmentRow) -> Iterator[Segment]:
            yield load_segment(row, model.sample_rate)

        def skip(sound: Sound, error: AudioError) -> None:
            skipped(sound, error)
            done.add()

        def loaded() -> Iterator[Segment]:
            rows = takewhile(lambda row: not done.stopped, left)
            for begun, readers in _begun(model, table, rows, lambda row: row.path):
                for row, segments in read_ahead(begun, load, readers, waiting=1):
                    try:
                        yield from segments
                    except AudioError as error:
                        skip(row.path, error)

        with ProgressCounter(track, len(left), "embedding") as done:
            for segment, vector in embed_segments(model, loaded(), options, skip, waiting=1):
                embedded += 1
                table.add(segment.path, vector, start=segment.start, end=segment.end)
                done.add()
        if not embedded and not stored:
            skipped.refuse(f"{len(todo)} segments")
        rows = table.finish()
    return BulkReport(out, rows, embedded, len(todo) - len(left), skipped.all)


def _embed_windows(
    model: EmbeddingModel,
    files: list[str],
    out: Path,
    options: Options,
    resume: bool,
    overwrite: bool,
    track: Track,
) -> BulkReport:
    """Embed the windows of files. A file that breaks off with an error keeps its rows up to there."""
    assert options.window is not None and options.hop is not None, "set by checked_options"
    window, hop, skipped = options.window, options.hop, Skipped(options)
    embedded = written = 0
    with TableWriter(out, identity(model, options), model.row_size(options), resume, overwrite) as table:
        open_file, after = table.last_row() or ("", -1.0)
        todo, earlier = _todo(files, table, model.sample_rate, skipped, open_file)

        def stored(file: str) -> float:
            return after if absolute(file) == open_file else -1.0

        def windows() -> Iterator[Segment]:
            nonlocal embedded
            for begun, readers in _begun(model, table, done.until_stopped(todo), str):
                for file, segments in cut_files(begun, model.sample_rate, window, hop, stored, readers):
                    latest = stored(file)
                    try:
                        for segment in segments:
                            latest = segment.end
                            yield segment
                        embedded += 1
                    except AudioError as error:
                        kept = f"; its rows up to {latest:g} s are kept" if latest > 0 else ""
                        skipped(file, AudioError(f"{error}{kept}"))
                        if latest <= 0:
                            done.add_file()

        with AudioProgress(todo, track, table) as done:
            for segment, vector in embed_segments(model, windows(), options, skipped, windows_ahead(window)):
                written += 1
                table.add(segment.path, vector, start=segment.start, end=segment.end)
                done.reach(segment.path, segment.end)
        if not written and not table.done():
            skipped.refuse(f"{len(files)} files")
        rows = table.finish()
    return BulkReport(out, rows, embedded, earlier, skipped.all)


def _embeddings(
    model: EmbeddingModel,
    table: TableWriter,
    files: Iterable[str],
    options: Options,
    skipped: Skipped,
    done: AudioProgress,
) -> Iterator[tuple[Sound, Embedding, bool]]:
    """Embed files in order; yield each in one piece, or several if it has many frames, and whether it is the last."""
    if options.pool == "none":  # the rows are the frames; a scene of all frames would hold them again
        options = replace(options, pool="max")
    with FrameSpool(table) as spool:

        def skip(sound: Sound, error: AudioError) -> None:
            spool.discard(sound)
            skipped(sound, error)
            done.add_file()

        for begun, readers in _begun(model, table, done.until_stopped(files), str):
            for sound, embedding in model.embed_many(begun, options, skip, readers, spool.add, done.add_audio):
                for piece, last in spool.pieces(sound, embedding):
                    yield sound, piece, last
                spool.discard(sound)
                done.add_file()


def _begun(
    model: EmbeddingModel, table: TableWriter, sources: Iterable[Source], path: Callable[[Source], str]
) -> Iterator[tuple[Iterator[Source], int]]:
    """Yield groups of sources with their number of readers: 0 for those on which the process may have died, so that
    they are read one at a time. Each source is recorded in the table when it is taken.
    """
    suspects = table.suspects()

    def begun(group: Iterable[Source], together: int) -> Iterator[Source]:
        for source in group:
            table.begin(path(source), together)
            yield source

    for alone, group in groupby(sources, lambda source: absolute(path(source)) in suspects):
        readers = 0 if alone else model.readers
        yield begun(group, 1 if alone else readers + 2), readers


def _todo(
    files: list[str], table: TableWriter, sample_rate: int, skipped: Skipped, open_file: str = ""
) -> tuple[list[str], int]:
    """Return the files to embed, the one that is partly in the table first, then those on which the process may have
    died, and the number that are in the table.
    """
    done, fatal, suspects = table.done() - {open_file}, table.fatal(sample_rate), table.suspects()
    skipped.found.update(fatal)
    dead = set(map(absolute, fatal))
    todo = [file for file in files if absolute(file) not in done and absolute(file) not in dead]
    todo.sort(key=lambda file: (absolute(file) != open_file, absolute(file) not in suspects))
    return todo, len(files) - len(todo) - len(fatal)
