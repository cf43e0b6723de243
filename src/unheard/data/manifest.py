"""The manifest of a fetched corpus.

``manifest.csv`` has one row a sound file: path (relative to the manifest), package, version, member (its path inside the package),
sha256 (of the file at ``path``), seconds, domain (speech, music, effects) and heldout ("1" on files that a task tests on).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unheard.data.corpus import read_csv
from unheard.errors import DataError

NAME = "manifest.csv"
COLUMNS = ("path", "package", "version", "member", "sha256", "seconds", "domain", "heldout")


def read_manifest(folder: Path | str) -> list[dict[str, str]]:
    """The rows of ``folder/manifest.csv``.

    Raises
    ------
    DataError
        When there is none or it lacks columns.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise DataError(f"{path}: no such file; fetch a corpus into that folder first: unheard data fetch M -o {folder}")
    return read_csv(path, COLUMNS)


def pretraining_rows(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The manifest rows that may be pre-trained on: those that no task tests on."""
    return [row for row in rows if row["heldout"] != "1"]
