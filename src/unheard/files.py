"""Files that are there whole or not at all: written under a temporary name beside their place, then put into it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to; in the place of ``path`` once the block has ended, gone when it fails."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file. Gives ``path`` back."""
    with whole(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8. Gives ``path`` back."""
    return write_bytes(path, text.encode())


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> Path:
    """Write a CSV. Gives ``path`` back."""
    with whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
