"""The manifest of a fetched corpus.

``manifest.csv`` has one row a sound file: path (relative to the manifest), package, version, member (its path inside
the package), sha256 (of the file at ``path``), seconds, domain (speech, music, effects) and heldout ("1" on files that
a task tests on).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

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
        raise DataError(
            f"{path}: no such file; fetch a corpus into that folder first: unheard data fetch M -o {folder}"
        )
    return read_csv(path, COLUMNS)


def from_table(rows: Iterable[Mapping[str, str]], root: Path, table: Path) -> list[dict[str, str]]:
    """Rows whose paths are relative to ``root``, with paths relative to the folder of ``table``; links of folders are
    followed.
    """
    base = os.path.relpath(root.resolve(), table.parent.resolve())
    return [{**row, "path": PurePosixPath(base, row["path"]).as_posix()} for row in rows]


def pretraining_rows(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The manifest rows that may be pre-trained on: those that no task tests on."""
    return [row for row in rows if row["heldout"] != "1"]
