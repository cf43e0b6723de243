"""The summary of a job that writes a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unheard.errors import DataError


@dataclass(frozen=True)
class BulkReport:
    """Summary of an embedding job.

    Parameters
    ----------
    out : Path
        Path of the table.
    rows : int
        Number of its rows.
    embedded, resumed : int
        Number of files embedded now, and by an earlier job.
    skipped : tuple of (path, reason)
        Files that could not be read.
    waits_for : str
        What the table waits for, if this was one task of several; empty: the table is written.
    """

    out: Path
    rows: int
    embedded: int
    resumed: int
    skipped: tuple[tuple[str, str], ...]
    waits_for: str = ""


class NothingReadError(DataError):
    """No sound of a job could be read.

    Parameters
    ----------
    message : str
    skipped : tuple of (path, reason)
        All of them.
    """

    def __init__(self, message: str, skipped: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.skipped = skipped
