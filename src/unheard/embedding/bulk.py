"""Embed files and folders into a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unheard.audio.folders import find_audio
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import identity
from unheard.embedding.job import Options, Sound
from unheard.embedding.tables import TableWriter, absolute
from unheard.errors import AudioError, DataError, shown
from unheard.progress import Track, silent


@dataclass(frozen=True)
class BulkReport:
    """Summary of an embedding job.

    Parameters
    ----------
    out : Path
        Path of the table.
    rows : int
        Number of its rows.
    embedded, resumed : int
        Number of files embedded now, and by an earlier job.
    skipped : tuple of (path, reason)
        Files that could not be read.
    """

    out: Path
    rows: int
    embedded: int
    resumed: int
    skipped: tuple[tuple[str, str], ...]


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
        With ``frames`` the table has one row a frame; without (the default) one row a file.

    Raises
    ------
    DataError
        When there is no audio, or none of it can be read.
    ConfigError
        When ``out`` exists and neither ``resume`` nor ``overwrite`` is given, or ``resume`` finds rows of another model
        or other options.
    """
    options = options or Options(frames=False)
    if options.pool == "none":
        options = replace(options, frames=True)
    files = expand(sources)
    skipped: dict[str, str] = {}

    def skip(sound: Sound, error: AudioError) -> None:
        skipped[shown(sound)] = str(error).removeprefix(f"{shown(sound)}: ")

    embedded = 0
    with TableWriter(Path(out), identity(model, options), model.row_size(options), resume, overwrite) as table:
        done, fatal = table.done(), table.fatal(model.sample_rate)
        skipped.update(fatal)
        dead = set(map(absolute, fatal))
        todo = [file for file in files if absolute(file) not in done and absolute(file) not in dead]
        for file, embedding in model.embed_many(map(table.begin, track(todo, len(todo), "embedding")), options, skip):
            embedded += 1
            if options.frames:
                table.add(str(file), embedding.seconds, embedding.frames, embedding.times_ms)
            else:
                table.add(str(file), embedding.seconds, embedding.scene)
        if not embedded and not done:
            first = ": ".join(next(iter(skipped.items()), ("", "")))
            raise DataError(f"none of the {len(files)} files could be read; the first one: {first}")
        rows = table.finish()
    return BulkReport(Path(out), rows, embedded, len(files) - len(todo) - len(fatal), tuple(skipped.items()))


def expand(sources: Iterable[str | Path]) -> list[str]:
    """Return the audio files of the given files and folders, each once, however its path is written.

    Files of a folder with other suffixes are ignored; a file given by path is not.

    Raises
    ------
    DataError
        When a path does not exist, or there is no audio at all.
    """
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise DataError(f"there is no file or folder {path}; correct the path")
        files += [str(path)] if path.is_file() else [str(file) for file in find_audio(path)]
    if not files:
        raise DataError(
            f"no audio in {', '.join(str(source) for source in sources)}; give wav, flac, ogg, opus, mp3 or aiff files"
        )
    once: dict[str, str] = {}
    for file in files:
        once.setdefault(absolute(file), file)
    return list(once.values())
