"""Tables of embeddings on disk: parts while they grow, then one parquet, npz or csv file.

One row a sound (``path, seconds, embedding``), or one row a frame with ``time_ms`` as well.
"""

from __future__ import annotations

import csv
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.errors import ConfigError, DataError
from unheard.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".parquet", ".npz", ".csv")
PART_VALUES = 8_000_000  # numbers held before a part is written: 32 MB; our choice


class TableWriter:
    """Grows a table in parts beside its final file, so that an interrupted job goes on where it stopped.

    Parameters
    ----------
    out : Path
        Final file; its ending chooses the format.
    size : int
        Length of one embedding.
    resume, overwrite : bool
        What to do with earlier work: go on, or start again. Neither: refuse when there is any.

    Raises
    ------
    ConfigError
        When the ending is unknown, or the file exists and neither flag was given.
    """

    def __init__(self, out: Path, size: int, resume: bool = False, overwrite: bool = False) -> None:
        if out.suffix not in FORMATS:
            raise ConfigError(f"{out}: the table's name must end in {', '.join(FORMATS)}")
        self.out, self.size = out, size
        self.parts = out.with_name(f".{out.name}.parts")
        if overwrite:
            shutil.rmtree(self.parts, ignore_errors=True)  # the table itself is replaced when the new one is complete
        elif not resume and (out.exists() or self.parts.exists()):
            what = "exists" if out.exists() else "was begun by an interrupted job"
            raise ConfigError(f"{out} {what}; go on with --resume, replace it with --overwrite, or choose another -o")
        self._rows: list[dict[str, Any]] = []
        self._values = 0

    def done(self) -> set[str]:
        """Paths of the sounds that earlier work has finished."""
        import pyarrow.parquet as pq

        return {path for part in self._files() for path in pq.read_table(part, columns=["path"])["path"].to_pylist()}

    def add(self, path: str, seconds: float, embedding: np.ndarray, time_ms: np.ndarray | None = None) -> None:
        """Append a sound: one vector (D,), or its frames (T, D) with their times (T,)."""
        self._rows.append({"path": path, "seconds": seconds, "embedding": embedding.reshape(-1, self.size), "time_ms": time_ms})
        self._values += embedding.size
        if self._values >= PART_VALUES:
            self._flush()

    def finish(self) -> int:
        """Join the parts into the final file, which appears complete or not at all; returns its number of rows."""
        self._flush()
        tables = list(self._tables())
        temporary = self.out.with_name(f".{self.out.name}.tmp")
        write = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}[self.out.suffix]
        with _clear_full_disk(self.out):
            write(temporary, tables)
            temporary.replace(self.out)
        shutil.rmtree(self.parts, ignore_errors=True)
        return sum(len(table) for table in tables)

    def _files(self) -> list[Path]:
        return sorted(self.parts.glob("part-*.parquet"))

    def _tables(self) -> Iterator[pa.Table]:
        import pyarrow.parquet as pq

        for part in self._files():
            yield pq.read_table(part, memory_map=True)

    def _flush(self) -> None:
        """Write the rows held as one part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        counts = [len(row["embedding"]) for row in self._rows]
        columns: dict[str, Any] = {
            "path": [row["path"] for row, n in zip(self._rows, counts, strict=True) for _ in range(n)],
            "seconds": np.repeat([row["seconds"] for row in self._rows], counts),
        }
        if self._rows[0]["time_ms"] is not None:
            columns["time_ms"] = np.concatenate([row["time_ms"] for row in self._rows])
        flat = np.concatenate([row["embedding"] for row in self._rows]).astype(np.float32).ravel()
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.size)
        self.parts.mkdir(parents=True, exist_ok=True)
        target = self.parts / f"part-{len(self._files()):05d}.parquet"
        with _clear_full_disk(self.out), atomic_write(target) as unfinished:
            pq.write_table(pa.table(columns), unfinished)
        self._rows, self._values = [], 0


@contextmanager
def _clear_full_disk(out: Path) -> Iterator[None]:
    """Turn a failed write into one clear line; parts that are complete stay."""
    try:
        yield
    except OSError as error:
        raise DataError(f"could not write {out}: {error.strerror or error}; free some space, then go on with --resume") from error


def _vectors(table: pa.Table) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return np.asarray(column.flatten()).reshape(len(table), -1)


def _write_parquet(file: Path, tables: list[pa.Table]) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def _write_npz(file: Path, tables: list[pa.Table]) -> None:
    """Arrays ``path``, ``seconds``, ``embedding`` (and ``time_ms``), the large one written part by part."""
    rows, size = sum(len(table) for table in tables), _vectors(tables[0]).shape[1]
    small = {name: np.concatenate([np.asarray(table[name]) for table in tables]) for name in tables[0].column_names if name != "embedding"}
    small["path"] = small["path"].astype(str)
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)
        with archive.open("embedding.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array_header_1_0(entry, {"descr": "<f4", "fortran_order": False, "shape": (rows, size)})
            for table in tables:
                entry.write(np.ascontiguousarray(_vectors(table), dtype="<f4").tobytes())


def _write_csv(file: Path, tables: list[pa.Table]) -> None:
    """Columns ``path, seconds, [time_ms,] e0, e1, ...``."""
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        names = [name for name in tables[0].column_names if name != "embedding"]
        writer.writerow([*names, *(f"e{i}" for i in range(_vectors(tables[0]).shape[1]))])
        for table in tables:
            plain = [table[name].to_pylist() for name in names]
            for row, vector in zip(zip(*plain, strict=True), _vectors(table), strict=True):
                writer.writerow([*row, *(f"{value:.7g}" for value in vector)])
