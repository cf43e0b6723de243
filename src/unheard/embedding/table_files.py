"""The three formats of embedding tables: written and read in blocks, with the identity of the embeddings.

    .parquet   columns path, seconds, [time_ms,] embedding; or path, start, end, embedding
               identity: JSON under the key ``unheard`` of the schema's metadata
    .npz       arrays of the same names; embedding (rows, D')
               identity: JSON in the array ``identity``
    .csv       the same columns, but e0, e1, ... instead of embedding
               identity and checksum: TABLE.csv.json

Pages of a parquet file and arrays of an npz file have checksums of their own format, which are compared on reading.
"""

from __future__ import annotations

import csv
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.errors import DataError
from unheard.files import (
    CHECKSUM,
    FILES,
    atomic_write,
    differing_files,
    file_checksums,
    json_checksum,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".parquet", ".npz", ".csv")
KEY = b"unheard"
ROWS = 20_000
"""Rows of a block that is read or written at once (our choice)."""
GROUP = 4096
"""Rows of a row group of a parquet file, which pyarrow holds in several copies while it reads (our choice)."""

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
"""Errors that reading a damaged file may raise; errors of pyarrow are among them."""

Blocks = Callable[[], Iterator["pa.Table"]]
"""Function that yields the blocks of a table, from the first one at each call."""


def write_table(out: Path, blocks: Blocks, identity: dict[str, Any]) -> int:
    """Write the blocks as one file, atomically. Return the number of rows."""
    with atomic_write(out) as unfinished:
        rows = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}[out.suffix](
            unfinished, blocks, identity
        )
    if out.suffix == ".csv":
        write_companion(out, identity)
    return rows


def write_companion(file: Path, identity: dict[str, Any]) -> None:
    """Write the identity and the checksum of a CSV table into ``TABLE.csv.json``, for `read_identity`."""
    write_json(_companion(file), {**identity, FILES: file_checksums(file.parent, [file.name])})


def read_identity(file: Path) -> dict[str, Any]:
    """Return the identity that `write_table` or `write_companion` stored of a table.

    Raises
    ------
    DataError
        When there is none, or the file is damaged.
    """
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".csv":
            stored = read_json(_companion(file))
            if differing_files(file.parent, stored.pop(FILES)):
                raise DataError(
                    f"{file} differs from its checksum: it is edited or damaged; replace it with --overwrite"
                )
            return stored
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return dict(json.loads(str(arrays["identity"])))
        stored = dict(json.loads((pq.read_schema(file).metadata or {})[KEY]))
        if stored.pop(CHECKSUM) != json_checksum(stored):
            raise DataError(f"{file} differs from its checksum: it is edited or damaged; replace it with --overwrite")
        return stored
    except DAMAGE as error:
        raise DataError(
            f"{file} holds no identity of its content, or is damaged ({error}); replace it with --overwrite"
        ) from error


def read_blocks(file: Path) -> Iterator[pa.Table]:
    """Yield the rows of a table in blocks.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    try:
        yield from {".parquet": _read_parquet, ".npz": _read_npz, ".csv": _read_csv}[file.suffix](file)
    except DAMAGE as error:
        raise DataError(f"{file} is damaged ({error}); replace it with --overwrite") from error


def read_columns(file: Path, names: Sequence[str]) -> list[list[Any]]:
    """Return columns of a table as lists, without reading its embeddings if the format allows it.

    Raises
    ------
    DataError
        When the file is damaged, or lacks one of the columns.
    """
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return [arrays[name].tolist() for name in names]
        if file.suffix == ".parquet":
            with pq.ParquetFile(file, page_checksum_verification=True) as stored:
                return _joined(stored.iter_batches(ROWS, columns=list(names)), names)
        return _joined(read_blocks(file), names)
    except DAMAGE as error:
        raise DataError(f"{file} is damaged ({error}); replace it with --overwrite") from error


def read_paths(file: Path) -> set[str]:
    """Return the paths of a table; errors are those of `read_columns`."""
    return set(read_columns(file, ("path",))[0])


def vectors(block: pa.Table) -> np.ndarray:
    """Return the embeddings of a block, (rows, D')."""
    column = block["embedding"].combine_chunks()
    return np.asarray(column.flatten()).reshape(len(block), -1)


def _joined(blocks: Iterable[pa.Table | pa.RecordBatch], names: Sequence[str]) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in names]
    for block in blocks:
        for values, name in zip(found, names, strict=True):
            values += block[name].to_pylist()
    return found


def _companion(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _block(columns: dict[str, Any], embedding: np.ndarray) -> pa.Table:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(embedding, np.float32).ravel())
    return pa.table({**columns, "embedding": pa.FixedSizeListArray.from_arrays(flat, embedding.shape[1])})


def _write_parquet(file: Path, blocks: Blocks, identity: dict[str, Any]) -> int:
    import pyarrow.parquet as pq

    sealed = json.dumps({**identity, CHECKSUM: json_checksum(identity)}).encode()
    schema, rows = next(blocks()).schema.with_metadata({KEY: sealed}), 0
    # a dictionary of the vectors would double their memory, and nothing is gained: they hardly ever repeat
    columns = [name for name in schema.names if name != "embedding"]
    with pq.ParquetWriter(file, schema, write_page_checksum=True, use_dictionary=columns) as writer:
        for block in blocks():
            writer.write_table(block.replace_schema_metadata(schema.metadata), GROUP)
            rows += len(block)
    return rows


def _read_parquet(file: Path) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, page_checksum_verification=True) as stored:
        # one row group at a time: over all of them, pyarrow holds the whole file
        for batch in (each for n in range(stored.num_row_groups) for each in stored.iter_batches(GROUP, [n])):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def _write_npz(file: Path, blocks: Blocks, identity: dict[str, Any]) -> int:
    first = next(blocks())
    names = [name for name in first.column_names if name not in ("path", "embedding")]
    rows, longest = 0, 1
    for block in blocks():
        rows, longest = rows + len(block), max(longest, *(len(path) for path in block["path"].to_pylist()))
    size = vectors(first).shape[1]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def write(name: str, kind: str, shape: tuple[int, ...], values: Callable[[pa.Table], Any]) -> None:
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = (
                zipfile.ZIP_DEFLATED if name == "path" else zipfile.ZIP_STORED
            )  # fixed-width texts hold many zeros
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
                for block in blocks():
                    stream.write(np.ascontiguousarray(values(block), kind).tobytes())

        write("path", f"<U{longest}", (rows,), lambda block: block["path"].to_pylist())
        for name in names:
            write(name, "<f4" if name == "time_ms" else "<f8", (rows,), _column(name))
        write("embedding", "<f4", (rows, size), vectors)
        with archive.open("identity.npy", "w") as stream:
            np.lib.format.write_array(stream, np.array(json.dumps(identity)), allow_pickle=False)
    return rows


def _column(name: str) -> Callable[[pa.Table], np.ndarray]:
    return lambda block: np.asarray(block[name])


def _read_npz(file: Path) -> Iterator[pa.Table]:
    with np.load(file, allow_pickle=False) as arrays:
        names = [name for name in arrays if name not in ("embedding", "identity")]
        small = {name: arrays[name] for name in names}
    with zipfile.ZipFile(file) as archive, archive.open("embedding.npy") as stream:
        np.lib.format.read_magic(stream)
        (rows, size), _, kind = np.lib.format.read_array_header_1_0(stream)
        for begin in range(0, rows, ROWS):
            count = min(ROWS, rows - begin)
            values = np.frombuffer(stream.read(count * size * kind.itemsize), kind).reshape(count, size)
            part = {name: column[begin : begin + count] for name, column in small.items()}
            yield _block({**part, "path": part["path"].tolist()}, values)
        stream.read(1)  # the end of the entry, where its checksum is compared


def _write_csv(file: Path, blocks: Blocks, identity: dict[str, Any]) -> int:
    first, rows = next(blocks()), 0
    names = [name for name in first.column_names if name != "embedding"]
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow([*names, *(f"e{i}" for i in range(vectors(first).shape[1]))])
        for block in blocks():
            plain = [block[name].to_pylist() for name in names]
            for row, vector in zip(zip(*plain, strict=True), vectors(block), strict=True):
                writer.writerow([*row, *(f"{value:.7g}" for value in vector)])
            rows += len(block)
    return rows


def _read_csv(file: Path) -> Iterator[pa.Table]:
    with file.open(newline="", encoding="utf-8") as source:
        reader = csv.reader(source)
        header = next(reader)
        first = header.index("e0")
        while chunk := [row for _, row in zip(range(ROWS), reader, strict=False)]:
            columns = {name: [row[i] for row in chunk] for i, name in enumerate(header[:first])}
            numbers = {
                name: np.array(texts, np.float32 if name == "time_ms" else np.float64)
                for name, texts in columns.items()
                if name != "path"
            }
            yield _block({"path": columns["path"], **numbers}, np.array([row[first:] for row in chunk], np.float32))


@contextmanager
def clear_errors(out: Path) -> Iterator[None]:
    """Convert a failed write to one clear error; complete parts stay."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"could not write {out}: {error.strerror or error}; free some space, then continue with --resume"
        ) from error
