"""The manifest of a fetched corpus.

``manifest.csv`` has one row for each sound file, with these columns:

- path: relative to the manifest
- package, version, member: the package, and the path inside it
- sha256: of the file at ``path``
- seconds, domain: length, and speech, music or effects
- heldout: "1" for files of the test split of a task
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from unheard.addresses import address_of, named
from unheard.data.tables import read_csv
from unheard.errors import DataError, shown
from unheard.remote.listing import is_file, is_folder
from unheard.remote.reading import copied_folder, source_of
from unheard.remote.writing import is_working_place

NAME = "manifest.csv"
COLUMNS = ("path", "package", "version", "member", "sha256", "seconds", "domain", "heldout")
HELD_OUT = frozenset({"test", "valid", "validation", "val", "dev", "eval"})
"""Values of the column ``split`` whose rows are not used in pre-training."""

TRAINED = frozenset({"", "train", "training"})
"""Values of the column ``split`` whose rows are used in pre-training."""

YES, NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"", "0", "0.0", "false", "no"})
"""Values of the column ``heldout``, in lower case."""


def read_manifest(folder: Path | str) -> list[dict[str, str]]:
    """Return the rows of ``folder/manifest.csv``; ``heldout`` is "1" or empty, in whatever way it is written.

    Raises
    ------
    DataError
        When it is missing or lacks columns, or ``heldout`` is not one of `YES` or `NO`.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise _without_manifest(folder)
    return [{**row, "heldout": "1" if _marked(row, path) else ""} for row in read_csv(path, COLUMNS)]


def _without_manifest(folder: Path | str) -> DataError:
    return DataError(
        f"{named(Path(folder, NAME))}: no such file; fetch a corpus into that folder first: unheard data fetch M -o"
        f" {named(folder)}"
    )


def local_corpus(root: Path | str, packages: Collection[str]) -> AbstractContextManager[Path]:
    """Return a context with a fetched corpus; of one at an address, a copy of its manifest and of some packages.

    Raises
    ------
    DataError
        When there is a folder at the address, but no manifest in it.
    RemoteError
        When the address cannot be read.
    """
    address = address_of(root).rstrip("/")
    if address and is_folder(address) and not is_file(f"{address}/{NAME}"):
        raise _without_manifest(root)
    return copied_folder(root, lambda name: name == NAME or name.partition("/")[0] in packages)


def from_table(rows: Iterable[Mapping[str, str]], root: Path, table: Path) -> list[dict[str, str]]:
    """Convert rows with paths relative to ``root`` to paths relative to the folder of ``table``; folder links are
    resolved. A table that will be uploaded has absolute paths, and copies of sounds at an address have their address.
    """
    base = source_of(root)
    if address_of(base):
        return [{**row, "path": f"{base}/{row['path']}"} for row in rows]
    base = str(root.resolve())
    base = base if is_working_place(table) else os.path.relpath(base, table.parent.resolve())
    return [{**row, "path": PurePosixPath(base, row["path"]).as_posix()} for row in rows]


def pretraining_rows(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return the manifest rows for pre-training: those that are not in the test split of a task."""
    return [row for row in rows if row["heldout"] != "1"]


def held_out(row: Mapping[str, str], table: Path) -> bool:
    """Return whether a row of a table is left out of pre-training, by its columns ``split`` and ``heldout``.

    Raises
    ------
    DataError
        When ``heldout`` is not one of `YES` or `NO`, or ``split`` not one of `HELD_OUT` or `TRAINED`.
    """
    split = row.get("split", "").strip().lower()
    if split not in HELD_OUT | TRAINED:
        raise DataError(
            f"{table}: split of {shown(row['path'])} is {split!r}; use train, valid or test, or leave it empty"
        )
    return _marked(row, table) or split in HELD_OUT


def _marked(row: Mapping[str, str], table: Path) -> bool:
    mark = row.get("heldout", "").strip().lower()
    if mark not in YES | NO:
        raise DataError(f"{table}: heldout of {shown(row['path'])} is {mark!r}; use 1 for a held-out sound, else 0")
    return mark in YES
