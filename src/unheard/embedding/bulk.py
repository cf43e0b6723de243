"""A folder in, a table out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unheard.audio.folders import find_audio
from unheard.embedding.embedder import Model, Options, Sound
from unheard.embedding.identity import identity
from unheard.embedding.tables import TableWriter, absolute
from unheard.errors import AudioError, DataError, shown
from unheard.progress import Track, silent


@dataclass(frozen=True)
class BulkReport:
    """What became of the files.

    Parameters
    ----------
    out : Path
        The table.
    rows : int
        Rows in it.
    embedded, resumed : int
        Files embedded now, and files an earlier job had done.
    skipped : tuple of (path, reason)
        Files that could not be read.
    """

    out: Path
    rows: int
    embedded: int
    resumed: int
    skipped: tuple[tuple[str, str], ...]


def embed_table(
    model: Model,
    sources: Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed files and folders into one table.

    Memory stays flat: rows go to parts on disk as they come. Files that cannot be read are skipped and named.

    Parameters
    ----------
    out : path
        ``.parquet``, ``.npz`` or ``.csv``.
    options : Options, optional
        With ``frames`` there is one row a frame; without (the default) one row a file.

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
    size = model.embedding_size * (2 if options.pool == "mean+std" and not options.frames else 1)
    skipped: dict[str, str] = {}

    def skip(sound: Sound, error: AudioError) -> None:
        skipped[shown(sound)] = str(error).removeprefix(f"{shown(sound)}: ")

    embedded = 0
    with TableWriter(Path(out), identity(model, options), size, resume, overwrite) as table:
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
    """Audio files of the given files and folders, each once however it is written; a folder's other files are ignored,
    a named file is not.

    Raises
    ------
    DataError
        When a path does not exist, or there is no audio at all.
    """
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise DataError(f"there is no file or folder {path}")
        files += [str(path)] if path.is_file() else [str(file) for file in find_audio(path)]
    if not files:
        raise DataError(
            f"no audio in {', '.join(str(source) for source in sources)}; expected wav, flac, ogg, opus, mp3 or aiff"
            " files"
        )
    once: dict[str, str] = {}
    for file in files:
        once.setdefault(absolute(file), file)
    return list(once.values())
