"""Sounds in an HDF5 file: a dataset whose rows are encoded sound files, or one whose rows are samples.

MaskSpec and PaSST store AudioSet in the first form: ``mp3`` with the bytes of the files. PANNs stores it in the second
form: ``waveform`` (N, S) with samples, and an attribute ``sample_rate``. Both have the names in ``audio_name``. A
member is called ``ROW/NAME``, with the number of the row from 0, as in a parquet file. A row of samples is a WAV file.
"""

from __future__ import annotations

import io
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import soundfile

from unheard.audio.archives.archive import RowArchive
from unheard.errors import AudioError, UnheardError, require, shown

if TYPE_CHECKING:
    import h5py

SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})
SOUNDS = ("mp3", "flac", "wav", "ogg", "audio")
"""Names of the dataset that is read if several hold encoded sounds, in this order."""
NAMES = "audio_name"
WAVES, RATE = "waveform", "sample_rate"
"""Dataset with samples, and the attribute of it or of the file with their rate in Hz."""


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
        self.path, self.problem, self.note, self.dataset, self.rate = path, "", "", "", 0
        self.rows = {}
        path.open("rb").close()
        try:
            require("h5py", "hdf5")
        except UnheardError as error:
            self.note = str(error)
            return
        try:
            with open_hdf5(path) as file:
                self.dataset, self.rate, self.problem = _dataset(file)
                if self.dataset:
                    self.rows = {name: row for row, name in enumerate(_names(file, self.dataset, suffixes))}
        except (OSError, RuntimeError, ValueError) as error:
            self.problem = f"it cannot be read as an HDF5 file ({' '.join(str(error).split())}); download it again"

    def lacks(self, name: str) -> AudioError:
        """Return the error for a name that is not among the members; without h5py none is."""
        return AudioError(f"{shown(self.path / name)}: {self.note}") if self.note else super().lacks(name)

    def content(self, row: int) -> bytes:
        """Return the bytes of a row. The file is opened for each, so that processes and threads share nothing."""
        with open_hdf5(self.path) as file:
            values = file[self.dataset][row]
        if not self.rate:
            return bytes(values)
        wav = io.BytesIO()
        soundfile.write(wav, values, self.rate, "PCM_16" if values.dtype.kind == "i" else "FLOAT", format="WAV")
        return wav.getvalue()


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, also one that another process reads.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    from h5py import File

    return File(path, "r", locking=False)


def _dataset(file: h5py.File) -> tuple[str, int, str]:
    """Return the name of the dataset with sounds, empty if there is none; the rate of samples, 0 of files; and why none
    was selected.
    """
    found = [name for name in file if _holds_files(file.get(name))]  # None for a link to nothing
    if not found:
        return _waves(file)
    known = [name for name in (found if len(found) == 1 else SOUNDS) if name in found]
    if known:
        return known[0], 0, ""
    return "", 0, f"its datasets {', '.join(found)} hold bytes, and none is called {' or '.join(SOUNDS)}"


def _holds_files(item: Any) -> bool:
    """Return whether an object of the file is a dataset of one dimension whose rows are bytes of variable length."""
    from h5py import Dataset, check_vlen_dtype

    kind = check_vlen_dtype(item.dtype) if isinstance(item, Dataset) and item.ndim == 1 else None
    return kind is not None and kind == "uint8"


def _waves(file: h5py.File) -> tuple[str, int, str]:
    """Return the same for a dataset whose rows are samples."""
    from h5py import Dataset

    item = file.get(WAVES)
    if not (isinstance(item, Dataset) and item.ndim == 2 and item.dtype in ("int16", "float32")):
        return "", 0, ""
    try:
        rate = int(item.attrs.get(RATE, file.attrs.get(RATE, 0)))
    except (TypeError, ValueError):
        rate = 0
    return (WAVES, rate, "") if rate > 0 else ("", 0, f"its dataset {WAVES} has no attribute {RATE} with a rate in Hz")


def _names(file: h5py.File, dataset: str, suffixes: frozenset[str]) -> list[str]:
    """Return the names of all rows."""
    count = len(file[dataset])
    stored = file[NAMES][:] if getattr(file.get(NAMES), "shape", None) == (count,) else [b""] * count
    names = []
    for row, value in enumerate(stored):
        name = PurePath(value.decode(errors="replace") if isinstance(value, bytes) else str(value)).name
        known = PurePath(name).suffix.lower() in suffixes
        if name and dataset == WAVES:
            name = f"{PurePath(name).stem if known else name}.wav"
        elif name and not known:
            name = f"{name}.{dataset}" if f".{dataset}" in suffixes else ""
        names.append(f"{row}/{name}" if name else str(row))
    return names
