"""Functions shared by the readers of public data sets: rows, tables, and finding a file in its usual places."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unheard.errors import DataError

ClipRow = dict[str, str]
"""path, label, and some of split, fold, group, known."""


def find(root: Path, names: str) -> Path | None:
    """Return the first of ``a or b`` that exists in a folder; None if there is none."""
    return next((root / name for name in names.split(" or ") if (root / name).exists()), None)


def table(path: Path, delimiter: str = ",", columns: Sequence[str] | None = None) -> Iterator[ClipRow]:
    """Yield the rows of a text table; lines that begin with ``#`` are comments.

    Parameters
    ----------
    columns : sequence of str, optional
        Names for a table without a header line.

    Raises
    ------
    DataError
        When it cannot be read, or a row is shorter than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = (line for line in file if not line.startswith("#"))
            for row in csv.DictReader(lines, columns, delimiter=delimiter, skipinitialspace=True):
                if None in row.values():
                    raise DataError(
                        f"{path}: a row has fewer values than columns: {', '.join(filter(None, row.values()))};"
                        " download it again"
                    )
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); download it again") from error


def column(row: ClipRow, name: str, path: Path) -> str:
    """Return a value of a row.

    Raises
    ------
    DataError
        When the table ``path`` has no such column.
    """
    if name not in row:
        raise DataError(f"{path} lacks the column {name}; it has {', '.join(filter(None, row))}")
    return row[name].strip()


def lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty.

    Raises
    ------
    DataError
        When it cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises
    ------
    DataError
        When the file holds no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__} instead of a JSON object; download it again")
    return found
