"""Vectors in an unnamed temporary file, read in blocks: memory does not grow with their number."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from weakref import finalize

import numpy as np
from jaxtyping import Float32

from unheard.errors import DataError, shown

BLOCK = 8192
"""Rows that are read at once (our choice)."""


class VectorFile:
    """Vectors of one width, written once by `append`, then read by `blocks`.

    Parameters
    ----------
    table : Path
        The table whose vectors these are. The file is in its folder, or in the system's if that one is read-only.
    dim : int
        Width of a vector.

    Raises
    ------
    DataError
        When the file cannot be made.
    """

    def __init__(self, table: Path, dim: int) -> None:
        self._table, self._dim, self._rows = table, dim, 0
        self._folder = Path(table.parent if os.access(table.parent, os.W_OK) else gettempdir())
        try:
            self._file: RawIOBase = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed with the object
        except OSError as error:
            raise self._error(error) from error
        finalize(self, self._file.close)
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return self._rows

    def append(self, values: Float32[np.ndarray, "n D"]) -> None:
        """Write vectors to the end.

        Raises
        ------
        DataError
            When they cannot be written, or one is not finite: it would be similar to nothing, and change all scores.
        """
        if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
            first = f"the first is row {len(self) + int(bad[0]) + 1}"
            raise DataError(f"{shown(self._table)} has vectors that are not finite, {first}; embed the sounds again")
        rest = values.reshape(-1).view(np.uint8).data
        try:
            while len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._error(error) from error
        self._rows += len(values)

    def blocks(self) -> Iterator[Float32[np.ndarray, "n D"]]:
        """Yield the vectors in blocks of at most `BLOCK`; the pages of a block are released after its use."""
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        vectors = np.frombuffer(self._map, np.float32).reshape(-1, self._dim)
        for at in range(0, len(self), BLOCK):
            yield vectors[at : at + BLOCK]
            if hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED)

    def _error(self, error: OSError) -> DataError:
        return DataError(
            f"the vectors of {shown(self._table)} cannot be copied to a temporary file in {shown(self._folder)}"
            f" ({error.strerror}); a search needs rows x dimensions x 4 bytes of free space there"
        )
