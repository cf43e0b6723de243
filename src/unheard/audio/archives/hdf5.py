"""Sounds in an HDF5 file: a one-dimensional dataset whose rows are encoded sound files, bytes of variable length.

This is the form in which MaskSpec and PaSST store AudioSet: ``mp3`` with the files, ``audio_name`` with their names. A
member is called ``ROW/NAME``, with the number of the row from 0, as in a parquet file.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from unheard.audio.archives.archive import RowArchive
from unheard.errors import AudioError, UnheardError, require, shown

if TYPE_CHECKING:
    import h5py

SUFFIXES = frozenset({".h5", ".hdf5"})
SOUNDS = ("mp3", "flac", "wav", "ogg", "audio")
"""Names of the dataset that is read if several hold encoded sounds, in this order."""
NAMES = "audio_name"


class Hdf5Archive(RowArchive):
    """An HDF5 file.

    Parameters
    ----------
    path : Path
    suffixes : frozenset of str
        Suffixes of sound files.

    Raises
    ------
    OSError
        When there is no such file.
    """

    def __init__(self, path: Path, suffixes: frozenset[str]) -> None:
        self.path, self.problem, self.note, self.dataset = path, "", "", ""
        self.rows = {}
        path.open("rb").close()
        try:
            require("h5py", "hdf5")
        except UnheardError as error:
            self.note = str(error)
            return
        try:
            with _open(path) as file:
                self.dataset, self.problem = _dataset(file)
                if self.dataset:
                    self.rows = {name: row for row, name in enumerate(_names(file, self.dataset, suffixes))}
        except (OSError, RuntimeError, ValueError) as error:
            self.problem = f"it cannot be read as an HDF5 file ({' '.join(str(error).split())}); download it again"

    def lacks(self, name: str) -> AudioError:
        """Return the error for a name that is not among the members; without h5py none is."""
        return AudioError(f"{shown(self.path / name)}: {self.note}") if self.note else super().lacks(name)

    def content(self, row: int) -> bytes:
        """Return the bytes of a row. The file is opened for each, so that processes and threads share nothing."""
        with _open(self.path) as file:
            return bytes(file[self.dataset][row])


def _open(path: Path) -> h5py.File:
    from h5py import File

    return File(path, "r", locking=False)


def _dataset(file: h5py.File) -> tuple[str, str]:
    """Return the name of the dataset with sounds, empty if there is none, and why none of several was selected."""
    found = [name for name in file if _holds_files(file.get(name))]  # None for a link to nothing
    if len(found) < 2:
        return "".join(found), ""
    known = [name for name in SOUNDS if name in found]
    if known:
        return known[0], ""
    return "", f"its datasets {', '.join(found)} hold bytes, and none is called {' or '.join(SOUNDS)}"


def _holds_files(item: Any) -> bool:
    """Return whether an object of the file is a dataset of one dimension whose rows are bytes of variable length."""
    from h5py import Dataset, check_vlen_dtype

    kind = check_vlen_dtype(item.dtype) if isinstance(item, Dataset) and item.ndim == 1 else None
    return kind is not None and kind == "uint8"


def _names(file: h5py.File, dataset: str, suffixes: frozenset[str]) -> list[str]:
    """Return the names of all rows."""
    count = len(file[dataset])
    stored = file[NAMES][:] if getattr(file.get(NAMES), "shape", None) == (count,) else [b""] * count
    names = []
    for row, value in enumerate(stored):
        name = PurePath(value.decode(errors="replace") if isinstance(value, bytes) else str(value)).name
        if name and PurePath(name).suffix.lower() not in suffixes:
            name = f"{name}.{dataset}" if f".{dataset}" in suffixes else ""
        names.append(f"{row}/{name}" if name else str(row))
    return names
