"""Sounds in a parquet file as the library ``datasets`` of Hugging Face writes them: a column of struct<bytes, path>.

A member is called ``ROW/NAME``, with the number of the row from 0 and the file name of its field ``path``; only ``ROW``
if that is not the name of a sound file. Row groups are read completely, and the latest ones are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path, PurePath
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from unheard.audio.archives.archive import RowArchive

if TYPE_CHECKING:
    import pyarrow

KEPT = 2
"""Row groups of a file that are kept in memory: those at which threads read (our choice)."""

AUDIO = "audio"
"""Name of the column that is read if several hold sounds."""

Chunks: TypeAlias = "pyarrow.ChunkedArray"


class ParquetArchive(RowArchive):
    """A parquet file.

    Parameters
    ----------
    path : Path
    suffixes : frozenset of str
        Suffixes of sound files.

    Raises
    ------
    OSError
        When it cannot be read.
    """

    def __init__(self, path: Path, suffixes: frozenset[str]) -> None:
        self.path, self.problem, self.rows = path, "", dict[str, int]()
        self._kept, self._lock = OrderedDict[int, Chunks](), Lock()
        self.column, self._ends = "", list[int]()
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(path) as file:
                self.column, self.problem = _column(file.schema_arrow)
                if self.column:
                    self._ends = list(
                        accumulate(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))
                    )
                    self.rows = {name: row for row, name in enumerate(_names(file, self.column, suffixes))}
        except (ArrowException, ValueError) as error:
            self.problem = f"it cannot be read as a parquet file ({' '.join(str(error).split())}); download it again"

    def content(self, row: int) -> memoryview:
        """Return the bytes of a row."""
        group = bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        value = self._group(group)[row - first]["bytes"]
        if not value.is_valid:
            raise ValueError("it holds no bytes, only the path of a file elsewhere")
        return memoryview(value.as_buffer())

    def _group(self, number: int) -> Chunks:
        """Read a row group; threads that need the same one wait for it."""
        from pyarrow.parquet import ParquetFile

        with self._lock:
            if number not in self._kept:
                with ParquetFile(self.path) as file:
                    self._kept[number] = file.read_row_group(number, columns=[f"{self.column}.bytes"]).column(0)
            self._kept.move_to_end(number)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[number]


def _column(schema: pyarrow.Schema) -> tuple[str, str]:
    """Return the name of the column with sounds, empty if there is none, and why none of several was selected."""
    found = [field.name for field in schema if _holds_sounds(field.type)]
    if len(found) < 2 or AUDIO in found:
        return (AUDIO if AUDIO in found else "".join(found)), ""
    return "", f"its columns {', '.join(found)} hold sounds, and none is called {AUDIO}; rename the one to use"


def _holds_sounds(kind: pyarrow.DataType) -> bool:
    """Return whether a column is a struct with the fields bytes, in binary, and path."""
    from pyarrow import types

    if not types.is_struct(kind) or {"bytes", "path"} - {kind.field(n).name for n in range(kind.num_fields)}:
        return False
    return bool(types.is_binary(kind.field("bytes").type) or types.is_large_binary(kind.field("bytes").type))


def _names(file: pyarrow.parquet.ParquetFile, column: str, suffixes: frozenset[str]) -> list[str]:
    """Return the names of all rows."""
    names = []
    for row, value in enumerate(file.read(columns=[f"{column}.path"]).column(0)):
        path = value["path"].as_py() if value.is_valid else None
        name = PurePath(path).name if path else ""
        names.append(f"{row}/{name}" if PurePath(name).suffix.lower() in suffixes else str(row))
    return names
