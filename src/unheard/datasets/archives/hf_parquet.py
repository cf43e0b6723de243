"""Annotations of the sounds in parquet files of the library ``datasets``: the other columns of their rows.

Numbers of a ``ClassLabel`` are replaced by the names of their classes, which the file stores in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unheard.datasets.archives.cells import Names
from unheard.errors import DataError, shown

BATCH = 4096
"""Rows that are read at once (our choice)."""


def read_rows(path: Path, fields: Sequence[str]) -> tuple[Names, Iterator[dict[str, Any]]]:
    """Return the names of classes, and the values of some columns for each row; missing columns are left out.

    Raises
    ------
    DataError
        When the file cannot be read.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    def rows() -> Iterator[dict[str, Any]]:
        try:
            with ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH, columns=columns):
                    yield from batch.to_pylist() if columns else ({} for _ in range(batch.num_rows))
        except (ArrowException, ValueError) as error:
            raise DataError(f"{shown(path)}: cannot be read ({' '.join(str(error).split())})") from error

    with ParquetFile(path) as file:
        schema = file.schema_arrow
    columns = [name for name in fields if name in schema.names]
    return _class_names((schema.metadata or {}).get(b"huggingface", b"{}"), columns), rows()


def _class_names(metadata: bytes, columns: Sequence[str]) -> Names:
    """Return the names of the classes of each column from the metadata of ``datasets``."""
    try:
        features = json.loads(metadata)["info"]["features"]
        found = {column: _names_of(features.get(column)) for column in columns}
    except (ValueError, KeyError, TypeError, AttributeError):  # other programs write other metadata
        return {}
    return {column: names for column, names in found.items() if names}


def _names_of(feature: Any) -> list[str]:
    """Return the names of a class label, or of a list of class labels; none for other features."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or ()]
    return _names_of(feature.get("feature"))
