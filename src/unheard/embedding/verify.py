"""Compare files with the checksums they were written with: packed corpora, models, runs, checkpoints, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from unheard.addresses import address_of
from unheard.embedding.table_files import FORMATS, read_blocks, read_identity
from unheard.errors import DataError, shown
from unheard.files import verify_folder
from unheard.progress import Track, silent
from unheard.remote.listing import is_folder
from unheard.remote.reading import local_folder, local_path


def verify(paths: Iterable[str | Path], track: Track = silent) -> list[str]:
    """Compare files and folders with their checksums.

    Parameters
    ----------
    paths : iterable of path
        Folders, searched recursively, and tables of embeddings or predictions.

    Returns
    -------
    list of str
        One line for each damaged or missing file; empty if all are correct.

    Raises
    ------
    DataError
        When a path does not exist, or nothing in it has a checksum.
    """
    roots = [Path(path) for path in paths]
    found: list[str] = []
    for path in track(roots, len(roots), "verifying"):
        if address_of(path):
            path = local_folder(path) if is_folder(path) else local_path(path)
        if not path.exists():
            raise DataError(
                f"{shown(path)}: no such file or folder; give a packed corpus, a model, a run, or a table of embeddings"
            )
        if path.is_dir():
            if not any(path.rglob("*.json")):
                raise DataError(f"{shown(path)}: nothing in it has a checksum; give a packed corpus, a model, or a run")
            found += verify_folder(path)
        elif path.suffix in FORMATS:
            found += _table(path)
        else:
            raise DataError(
                f"{shown(path)}: has no checksum; give a folder, or a table that ends in {', '.join(FORMATS)}"
            )
    return found


def _table(file: Path) -> Iterator[str]:
    try:
        read_identity(file)
        if file.suffix != ".csv":  # the checksum of a CSV file is that of all its bytes
            for _ in read_blocks(file):
                pass
    except DataError as error:
        yield str(error)
