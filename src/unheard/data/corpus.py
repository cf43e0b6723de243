"""A corpus: the sounds of a folder, of a CSV, or of the manifest of a fetched corpus."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from unheard.audio.archives.members import ARCHIVES, COMPRESSED, byte_size, is_sound_file, open_bytes
from unheard.audio.folders import find_sounds
from unheard.audio.suffixes import AUDIO_SUFFIXES, AV_SUFFIXES
from unheard.audio.waveform import info
from unheard.data.manifest import NAME as MANIFEST
from unheard.data.manifest import held_out
from unheard.data.tables import read_csv, read_seconds, refuse_empty_word, refuse_reversed
from unheard.errors import AudioError, ConfigError, DataError, shown
from unheard.progress import Track, silent
from unheard.remote.listing import is_file, is_folder

COLUMNS = ("start", "end", "domain", "label", "caption", "split", "heldout", "sha256")
"""Columns of a CSV that are read, apart from ``path``."""

SAMPLE = 4096
"""Bytes read at each of three places of a file to identify its content: a page of the disk (our choice)."""

SHOWN = 3
"""Sources that a message names (our choice)."""

THREADS = 2 * (os.cpu_count() or 1)
"""Number of headers read at once; reading waits for the disk (our choice)."""


@dataclass(frozen=True)
class Clip:
    """One sound: a whole file or a part of one.

    Parameters
    ----------
    path : str
        Relative to the corpus's root, with forward slashes.
    seconds : float
        Length of the clip.
    domain : str
        Kind of sound, such as "speech"; may be empty.
    start : float
        Start in its file, in seconds.
    end : float, optional
        End in its file. Default: the end of the file.
    size : int
        Bytes of the file, to detect a changed file.
    content : str
        Hash of bytes at three places, and the ``sha256`` of a manifest if there is one; to detect changes at equal
        size.
    label : str
        Labels joined by ``|``; may be empty.
    caption : str
        Description in a sentence; may be empty.
    """

    path: str
    seconds: float
    domain: str = ""
    start: float = 0.0
    end: float | None = None
    size: int = 0
    content: str = ""
    label: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Skipped:
    """A sound that could not be used, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The usable clips of a source.

    Parameters
    ----------
    root : Path
        Folder to which the paths of clips are relative.
    clips : tuple of Clip
    skipped : tuple of Skipped
        Sounds that cannot be used.
    held_out : int
        Number of rows left out because their ``split`` or ``heldout`` column reserves them for testing.
    """

    root: Path
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()
    held_out: int = 0

    @property
    def hours(self) -> float:
        """Return the hours of sound."""
        return sum(clip.seconds for clip in self.clips) / 3600

    def fingerprint(self) -> str:
        """Return a hash of the clips: paths, parts, lengths, sizes, samples of the bytes, labels, captions, domains.

        It does not depend on where and when files were written. A change between the sampled bytes that keeps a file's
        size is not detected.
        """
        return self._hash(annotated=True)

    def sounds_fingerprint(self) -> str:
        """Return a hash as `fingerprint` that does not depend on labels, captions and domains."""
        return self._hash(annotated=False)

    def _hash(self, annotated: bool) -> str:
        digest = hashlib.sha256()
        for clip in self.clips:
            annotations = f"\t{clip.label}\t{clip.caption}" if annotated and (clip.label or clip.caption) else ""
            annotations += f"\t\t\t{clip.domain}" if annotated and clip.domain else ""
            line = f"{clip.path}\t{clip.start:.4f}\t{clip.seconds:.4f}\t{clip.size}\t{clip.content}{annotations}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


Sources: TypeAlias = str | Path | Sequence[str | Path]
"""A folder, a file, an archive, a CSV or a fetched corpus; or several of them, in their order."""


def listed(sources: Sources) -> list[Path]:
    """Return one source or several as a list.

    Raises
    ------
    ConfigError
        When there is none.
    """
    found = [Path(each) for each in ([sources] if isinstance(sources, str | Path) else sources)]
    if not found:
        raise ConfigError("no source is given; give folders of audio, archives, CSVs, or one packed corpus")
    return found


def brief(sources: Sources) -> str:
    """Return the names of sources, of many those of the first, as one line of text."""
    names = [shown(each) for each in listed(sources)]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def root_of(sources: Sources) -> Path:
    """Return the folder to which the paths of the clips of a corpus are relative; of several sources the common one."""
    roots = [each if is_folder(each) else each.parent for each in listed(sources)]
    return roots[0] if len(roots) == 1 else Path(os.path.commonpath(map(_absolute, roots)))


def open_corpus(source: Sources, track: Track = silent) -> Corpus:
    """Find the clips of a folder, a file, an archive, a CSV or a fetched corpus, and read the header of every file.

    A CSV has a column ``path`` (relative to the CSV), and optionally ``start``, ``end`` (seconds), ``domain``,
    ``label``, ``caption``, ``split`` and ``heldout``. Rows that are `held_out` are left out and counted. A folder is
    searched recursively with its archives, or read through its ``manifest.csv`` if it has one. The clips of several
    sources are one corpus, in the order of the sources.

    Raises
    ------
    ConfigError
        When no source is given.
    DataError
        When a source does not exist, a CSV is malformed, or nothing in it can be used. When one of several sources has
        no sounds, or the clip of an earlier one.
    """
    sources = listed(source)
    parts, root = [_find_rows(each) for each in sources], root_of(sources)
    if len(parts) > 1:
        _refuse_empty_or_repeated(parts)
    rows = [(part.below(root, row) if len(parts) > 1 else row, part.table) for part in parts for row in part.rows]
    kept = [(row, table) for row, table in rows if not held_out(row, table)]
    lengths = scan_files(root, dict.fromkeys(row["path"] for row, _ in kept), track)
    made = [_clip(row, lengths[row["path"]], table) for row, table in kept]
    clips = tuple(clip for clip in made if isinstance(clip, Clip))
    skipped = tuple(clip for clip in made if isinstance(clip, Skipped))
    if not clips:
        why = "it holds no sound files that can be read"
        if skipped:
            why = f"the first of {len(skipped)} files, {shown(skipped[0].path)}, was skipped: {skipped[0].reason}"
        raise DataError(f"{brief(sources)}: nothing in it can be used; {why}")
    return Corpus(root, clips, skipped, len(rows) - len(kept))


@dataclass(frozen=True)
class _Part:
    """The rows of one source of a corpus, and the table or folder that they are from."""

    root: Path
    rows: list[dict[str, str]]
    table: Path

    def below(self, root: Path, row: dict[str, str]) -> dict[str, str]:
        """Return a row with its path relative to a folder above."""
        return {**row, "path": (Path(_absolute(self.root)).relative_to(root) / row["path"]).as_posix()}


def _refuse_empty_or_repeated(parts: Sequence[_Part]) -> None:
    """Refuse a source without sounds, and one with a clip of an earlier source, held out or not."""
    known: dict[tuple[str, float, float | None], Path] = {}
    for part in parts:
        if not part.rows:
            raise DataError(f"{shown(part.table)}: holds no sound files that can be read; leave it out")
        root = os.path.realpath(part.root)
        clips = dict.fromkeys(
            (os.path.normpath(os.path.join(root, row["path"])), *_times(row, part.table))  # noqa: PTH118 - many names
            for row in part.rows
        )
        if twice := next((clip for clip in clips if clip in known), None):
            raise DataError(
                f"{shown(Path(twice[0]))} is in {shown(known[twice])} and again in {shown(part.table)}; give each sound"
                " once"
            )
        known.update(dict.fromkeys(clips, part.table))


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - links are not followed


def _find_rows(source: Path) -> _Part:
    table = source / MANIFEST if is_file(source / MANIFEST) else source
    sounds = table.suffix.lower() in AUDIO_SUFFIXES | AV_SUFFIXES | ARCHIVES or COMPRESSED.search(table.name)
    folder = is_folder(table)
    if folder or (sounds and is_sound_file(table)):
        root = source if folder else source.parent
        return _Part(root, [{"path": path.relative_to(root).as_posix()} for path in find_sounds(source)], table)
    if not is_file(table):
        raise DataError(
            f"{shown(source)}: no such file or folder; give a folder of audio, an archive, a CSV with a column path, or"
            " a packed corpus"
        )
    return _Part(table.parent, read_csv(table, ("path",), COLUMNS), table)


Found: TypeAlias = tuple[float, int, str]
"""Seconds, bytes and content of a file."""


def scan_files(root: Path, paths: Iterable[str], track: Track) -> dict[str, Found | str]:
    """Return the length, size and content hash of each file, or why it cannot be used."""

    def look(path: str) -> Found | str:
        try:
            seconds, size = info(root / path).seconds, byte_size(root / path)
            return seconds, size, _content(root / path, size)
        except (AudioError, OSError) as error:
            return str(error).removeprefix(f"{shown(root / path)}: ")

    names = list(paths)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, track(pool.map(look, names), len(names), "reading headers"), strict=True))


def _content(path: Path, size: int) -> str:
    """Return a hash of the first, middle and last bytes of a file; beginnings and ends are often silence."""
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        for start in (0, (size - SAMPLE) // 2, size - SAMPLE):
            file.seek(max(0, start))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def _clip(row: dict[str, str], found: Found | str, table: Path) -> Clip | Skipped:
    """Return the clip of one row, or why there is none."""
    path = Path(row["path"]).as_posix()
    if isinstance(found, str):
        return Skipped(path, found)
    length, size, content = found
    start, end = _times(row, table)
    seconds = min(length, math.inf if end is None else end) - start
    if seconds <= 0:
        part = f"from {start:g} s to {'the end' if end is None else f'{end:g} s'} of its {length:g} s"
        return Skipped(path, f"holds no samples {part}")
    annotations = {name: row.get(name, "").strip() for name in ("domain", "label", "caption")}
    for name, text in annotations.items():
        refuse_empty_word(text, f"{table}: {name} of {shown(row['path'])}")
    annotations["content"] = content + row.get("sha256", "")
    return Clip(path, seconds, start=start, end=end, size=size, **annotations)


def _times(row: dict[str, str], table: Path) -> tuple[float, float | None]:
    """Return start and end of one row in seconds."""
    start, end = (
        read_seconds(row.get(column, ""), f"{table}: {column} of {shown(row['path'])}") for column in ("start", "end")
    )
    refuse_reversed(start, end, f"{table}: {shown(row['path'])}")
    return start or 0.0, end
