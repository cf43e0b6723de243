"""Outputs that exist already: refused, by the process that writes them while one does."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import ConfigError
from unheard.files import LOCK, locked_folder

WAYS = "choose another -o, or replace it with --overwrite"


def refuse_existing(out: Path, ways: str = WAYS) -> None:
    """Refuse an output that exists.

    Parameters
    ----------
    out : Path
        A file or a folder.
    ways : str
        What a user can do.

    Raises
    ------
    ConfigError
        Always: with the id and host of the process that writes into the folder while there is one.
    """
    if (out / LOCK).is_file():
        with locked_folder(out):
            pass  # the lock of a process that was killed
    raise ConfigError(f"{out} exists; {ways}")
