"""Sound files of a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from unheard.audio.decode import AUDIO_SUFFIXES, AV_SUFFIXES, av_installed
from unheard.errors import DataError, shown, warn_audio


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
