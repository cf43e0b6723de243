"""A folder that grows, mirrored to an address: what is new or changed is uploaded, what is gone is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unheard.errors import RemoteError
from unheard.outputs import LOCK
from unheard.remote.listing import exists, files_below
from unheard.remote.reading import fetch
from unheard.remote.writing import completing_last, delete, upload

NOT_MIRRORED = ("corpus",)
"""Folders that stay local: a packed corpus can be made again from its sounds."""

State = tuple[int, int]
"""Size and time of a file."""


class Mirror:
    """The copy of a folder at an address.

    Parameters
    ----------
    folder : Path
    address : str
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self._done: dict[str, State] = {}

    def update(self) -> None:
        """Upload new and changed files, those that complete a folder last; then delete what is gone.

        Raises
        ------
        RemoteError
            When the address cannot be written. What was uploaded stays valid.
        """
        now = dict(self._files())
        for name in sorted(now, key=completing_last):
            if self._done.get(name) != now[name] and (self.folder / name).exists():
                upload(self.folder / name, f"{self.address}/{name}")
                self._done[name] = now[name]
        gone = set(files_below(self.address) if exists(self.address) else ()) - set(now)
        for name in sorted(gone, key=completing_last, reverse=True):
            delete(f"{self.address}/{name}")
            self._done.pop(name, None)

    def _files(self) -> Iterator[tuple[str, State]]:
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            parts = name.split("/")
            if parts[0] in NOT_MIRRORED or any(part.startswith(".") for part in parts) or not path.is_file():
                continue
            state = path.stat()
            yield name, (state.st_size, state.st_mtime_ns)


def fetch_folder(address: str, place: Path) -> None:
    """Copy a mirrored folder to its local place.

    Raises
    ------
    RemoteError
        When it is not there, or cannot be read.
    """
    names = [name for name in files_below(address) if name.partition("/")[0] not in NOT_MIRRORED]
    if not names:
        raise RemoteError(f"{address}: no such folder; correct the address")
    fetch(address, place, [name for name in names if name.rpartition("/")[2] != LOCK])
