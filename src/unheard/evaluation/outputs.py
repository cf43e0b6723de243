"""Outputs that exist already: refused, by the process that writes them while one does."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import ConfigError
from unheard.locks import LOCK, locked_folder

WAYS = "choose another -o, or replace it with --overwrite"


def refuse_existing(out: str | Path, overwrite: bool, ways: str = WAYS) -> None:
    """Refuse an output that exists and is not to be replaced.

    Parameters
    ----------
    out : path
        A file or a folder.
    overwrite : bool
        Whether it is to be replaced: then nothing is refused.
    ways : str
        What a user can do.

    Raises
    ------
    ConfigError
        With the id and host of the process that writes into the folder while there is one.
    """
    place = Path(out)
    if overwrite or not place.exists():
        return
    if (place / LOCK).is_file():
        with locked_folder(place):
            pass  # the lock of a process that was killed
    raise ConfigError(f"{out} exists; {ways}")
