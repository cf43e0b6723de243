"""Sound files of a folder, and of the archives in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from unheard.addresses import address_of
from unheard.audio.archives.members import COMPRESSED, find_member, is_archive, is_sound_file, open_archive
from unheard.audio.decode import av_installed
from unheard.audio.suffixes import AUDIO_SUFFIXES, AV_SUFFIXES
from unheard.errors import DataError, shown, warn_audio
from unheard.remote import listing
from unheard.remote.reading import source_of

MANY = 100
"""Names in one folder from which on it is listed (our choice)."""


def find_audio(folder: str | Path) -> list[Path]:
    """Return every sound file below ``folder``, also at an address, sorted by its relative path; archives are not read.

    Suffixes are those of `AUDIO_SUFFIXES`, and of `AV_SUFFIXES` if the extra ``av`` is installed. Hidden files and
    folders are skipped, and linked folders are not followed. An `AudioWarning` gives the number of these, and that of
    sound files that need the extra.

    Raises
    ------
    DataError
        When ``folder`` is not a folder.
    RemoteError
        When an address cannot be listed.
    """
    root = _checked_folder(folder)
    counts = _Counts()
    found = [path for path in _files(root) if counts.usable(path)]
    counts.warn(root)
    return found


def find_sounds(source: str | Path) -> list[Path]:
    """Return every sound of a folder, of an archive, or the one sound that ``source`` names.

    A folder is searched as in `find_audio`, and its archives are read: a member is the path ``ARCHIVE/MEMBER``, sorted
    by name in a tar file, and by row in a parquet or an HDF5 file. An archive that is damaged follows its
    members by itself, so that opening it gives the reason.

    Raises
    ------
    DataError
        When there is no such file or folder.

    Warns
    -----
    AudioWarning
        For compressed archives, for archives whose names occur more than once, and as in `find_audio`.
    """
    root = Path(source)
    if address_of(root):
        return _find_remote(root)
    if not root.is_dir() and not is_sound_file(root):
        raise DataError(f"{shown(root)}: no such file or folder; give sound files, archives, or folders that hold some")
    if (root.is_file() and not is_archive(root)) or find_member(root) is not None:
        return [root]
    counts = _Counts()
    found: list[Path] = []
    for path in [root] if root.is_file() else _files(root):
        if is_archive(path):
            found += _members(path, counts)
        elif counts.usable(path):
            found.append(path)
    counts.warn(root)
    return found


def find_each_sound(sources: Iterable[str | Path]) -> list[Path]:
    """Return the sounds of several sources, in their order; each once, however its path is written.

    Raises
    ------
    DataError
        When a source does not exist, or holds no sounds.
    """
    once: dict[str, Path] = {}
    for source in sources:
        found = find_sounds(source)
        if not found:
            raise DataError(
                f"no audio in {shown(Path(source))}; give files, folders or archives with wav, flac, ogg, opus, mp3 or"
                " aiff"
            )
        for path in found:
            once.setdefault(address_of(path) or os.path.abspath(path), path)  # noqa: PTH100 - links are not followed
    return list(once.values())


def _find_remote(root: Path) -> list[Path]:
    """Return the sounds of a folder, of an archive, or the one sound at an address; see `find_sounds`."""
    if listing.is_file(root) and not is_archive(root):
        return [root]
    counts = _Counts()
    found: list[Path] = []
    if is_archive(root) and listing.is_file(root):
        return list(_members(root, counts))
    if (member := find_member(root)) is not None and member[1] in member[0]:
        return [root]
    for path in _files(root):
        if is_archive(path):
            found += _members(path, counts)
        elif counts.usable(path):
            found.append(path)
    counts.warn(root)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def find_archives(source: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the archives with some suffixes below a folder, sorted by their relative path; or the one archive given.

    The folder or the archive may be at an address.

    Raises
    ------
    DataError
        When there is none.
    RemoteError
        When an address cannot be listed.
    """
    if listing.is_file(source) and source.suffix.lower() in suffixes:
        return [source]
    files = _files(source) if address_of(source) or source.is_dir() else []
    found = [path for path in files if path.suffix.lower() in suffixes]
    if not found:
        ends = " or ".join(sorted(suffixes))
        raise DataError(f"{shown(source)}: no {ends} file; give files that end in {ends}, or folders that hold some")
    return found


class _Counts:
    """Counts the files that are left out."""

    def __init__(self) -> None:
        self._suffixes = AUDIO_SUFFIXES | (AV_SUFFIXES if av_installed() else frozenset())
        self._needing_av, self._compressed = Counter[str](), 0

    def usable(self, path: PurePath) -> bool:
        """Return whether a file has the suffix of a sound file that can be read."""
        suffix = path.suffix.lower()
        if suffix in AV_SUFFIXES - self._suffixes:
            self._needing_av[suffix] += 1
        self._compressed += COMPRESSED.search(path.name) is not None
        return suffix in self._suffixes

    def warn(self, root: Path) -> None:
        """Warn about what was left out of a folder."""
        name = shown(source_of(root))
        if self._needing_av:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self._needing_av.items()))
            warn_audio(
                f"{name}: {self._needing_av.total()} sound files are left out ({counts}); to read them: pip"
                " install 'unheard[av]'"
            )
        if self._compressed:
            warn_audio(
                f"{name}: {self._compressed} compressed tar files are left out; to read them, unpack the"
                " compression (gunzip, bunzip2, unxz or unzstd)"
            )


def _members(path: Path, counts: _Counts) -> Iterator[Path]:
    """Yield the sounds of an archive, and the archive itself if it cannot be read completely."""
    try:
        archive = open_archive(path)
    except OSError:  # opening it as a sound gives the reason
        yield path
        return
    if archive.note:
        warn_audio(f"{shown(path)}: {archive.note}")
    named = path.suffix.lower() == ".tar"  # every member of the others is a sound
    yield from (path / name for name in archive.names if not named or counts.usable(PurePath(name)))
    if archive.problem:
        yield path


def _checked_folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not listing.is_folder(root):
        problem = "is a file" if listing.is_file(root) else "no such folder"
        raise DataError(f"{shown(root)}: {problem}; give a folder that holds sound files")
    return root


def _files(root: Path) -> list[Path]:
    """Return the files below a folder, also at an address, that are not hidden, sorted by their relative path."""
    if address_of(root):
        below = listing.files_below(root)
        return [root / name for name in below if not any(part.startswith(".") for part in name.split("/"))]
    found: list[Path] = []
    linked: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked += (place for name in folders if (place := Path(parent, name)).is_symlink())
        found += (Path(parent, name) for name in names if not name.startswith("."))
    if linked:
        first = f"the first {shown(min(linked))}"
        warn_audio(
            f"{shown(root)}: {len(linked)} linked folders are left out, {first}; give each as a source of its own"
        )
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def missing_files(folder: str, names: Iterable[str]) -> set[str]:
    """Return the names, relative to ``folder``, that are neither files nor members of archives.

    Folders that hold many of them are listed: that takes a tenth of the time of a check for each of millions of files.
    A name that a listing lacks is checked by itself, as its case or its form may differ.
    """
    by_parent: dict[str, list[str]] = {}
    for name in names:
        by_parent.setdefault(os.path.dirname(name), []).append(name)  # noqa: PTH120 - millions of names
    missing: set[str] = set()
    for parent, inside in by_parent.items():
        listed = _listed(os.path.join(folder, parent)) if len(inside) > MANY else frozenset()  # noqa: PTH118
        missing.update(
            name
            for name in inside
            if os.path.basename(name) not in listed and not is_sound_file(os.path.join(folder, name))  # noqa: PTH118, PTH119
        )
    return missing


def _listed(folder: str) -> frozenset[str]:
    """Return the names of the files in a folder; none if it cannot be listed."""
    if address_of(folder):
        return listing.names_in(folder)
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # not there, not readable, or a name with a zero byte
        return frozenset()
