"""The summary of a job that writes a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unheard.embedding.job import Options, Sound
from unheard.errors import AudioError, DataError, shown


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


class Skipped:
    """What cannot be read: a function for `EmbeddingModel.embed_many` that collects paths and reasons, or raises."""

    def __init__(self, options: Options) -> None:
        self.found: dict[str, str] = {}
        self._raises = options.on_error == "raise"

    def __call__(self, sound: Sound, error: AudioError) -> None:
        """Collect a sound, or raise its error if the options ask for it."""
        if self._raises:
            raise error
        self.found[shown(sound)] = str(error).removeprefix(f"{shown(sound)}: ")

    @property
    def all(self) -> tuple[tuple[str, str], ...]:
        """Return (path, reason) of every sound."""
        return tuple(self.found.items())

    def refuse(self, count: str) -> None:
        """Raise the error of a job in which nothing could be read."""
        first = ": ".join(next(iter(self.found.items()), ("", "")))
        raise NothingReadError(f"none of the {count} could be read; the first one: {first}", self.all)
