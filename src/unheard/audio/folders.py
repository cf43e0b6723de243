"""Sound files of a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from unheard.audio.decode import AUDIO_SUFFIXES, AV_SUFFIXES, av_installed
from unheard.errors import DataError, shown, warn_audio

MANY = 100
"""Names in one folder from which on it is listed (our choice)."""


def find_audio(folder: str | Path) -> list[Path]:
    """Return every sound file below ``folder``, sorted by its relative path.

    Suffixes are those of `AUDIO_SUFFIXES`, and of `AV_SUFFIXES` if the extra ``av`` is installed. Hidden files and
    folders are skipped, and linked folders are not followed. An `AudioWarning` gives the number of sound files that
    need the extra.

    Raises
    ------
    DataError
        When ``folder`` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        problem = "is a file" if root.is_file() else "no such folder"
        raise DataError(f"{shown(root)}: {problem}; give a folder that holds sound files")
    suffixes = AUDIO_SUFFIXES | (AV_SUFFIXES if av_installed() else frozenset())
    found, left_out = [], Counter[str]()
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (name for name in names if not name.startswith(".")):
            suffix = Path(name).suffix.lower()
            if suffix in suffixes:
                found.append(Path(parent, name))
            elif suffix in AV_SUFFIXES:
                left_out[suffix] += 1
    if left_out:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(left_out.items()))
        warn_audio(
            f"{shown(root)}: {left_out.total()} sound files are left out ({counts}); to read them: pip install"
            " 'unheard[av]'"
        )
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def missing_files(folder: str, names: Iterable[str]) -> set[str]:
    """Return the names, relative to ``folder``, that are not files.

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
            if os.path.basename(name) not in listed and not os.path.isfile(os.path.join(folder, name))  # noqa: PTH113, PTH118, PTH119
        )
    return missing


def _listed(folder: str) -> frozenset[str]:
    """Return the names of the files in a folder; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # not there, not readable, or a name with a zero byte
        return frozenset()
