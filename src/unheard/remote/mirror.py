"""A folder, or a file, and its copy at an address: what is new or changed is uploaded, what is gone is deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from unheard.remote.listing import exists, files_below, is_file
from unheard.remote.reading import fetch
from unheard.remote.writing import completing_last, delete, upload

State = tuple[int, int]
"""Size and time of a file."""


class Mirror:
    """The copy of a folder at an address. Files and folders whose names begin with a dot have none.

    Parameters
    ----------
    folder : Path
    address : str
    local : collection of str
        Folders in it that have no copy, either.
    """

    def __init__(self, folder: Path, address: str, local: Collection[str] = ()) -> None:
        self.folder, self.address, self.local = folder, address, local
        self._done: dict[str, State] = {}
        self._file_states: dict[str, State] = {}
        self._seen: set[str] | None = None

    def fetch(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Copy the files that the local folder lacks. They are not uploaded again, unless they change.

        Parameters
        ----------
        wanted : callable
            Returns whether a file is needed, by its name relative to the folder.

        Raises
        ------
        RemoteError
            When the address is no folder, or cannot be read.
        """
        copies = self._copies() if exists(self.address) else []
        self._seen = set(copies)
        for name in filter(wanted, copies):
            if not (self.folder / name).exists():
                fetch(self.address, self.folder, [name])
                self._done[name] = _state(self.folder / name)

    def fetch_output(self) -> None:
        """Copy what is at the address: a folder, as `fetch`, or a file and the file ``NAME.json`` next to it.

        A local file stays as it is, with what is next to it.

        Raises
        ------
        RemoteError
            When the address cannot be read.
        """
        place, (parent, _, name) = self.folder, self.address.rpartition("/")
        files = [each for each in (name, f"{name}.json") if is_file(f"{parent}/{each}")]
        if name not in files:
            self.fetch()
        elif place.exists():
            return
        for each in files:
            if not (place.parent / each).exists():
                fetch(parent, place.parent, [each])
                self._file_states[each] = _state(place.parent / each)

    def drop_unchanged(self) -> None:
        """Delete the local files that were copied and nothing has changed, and folders that become empty."""
        for folder, copied in ((self.folder, self._done), (self.folder.parent, self._file_states)):
            for name, state in copied.items():
                if (file := folder / name).is_file() and _state(file) == state:
                    file.unlink()
        for folder in sorted((path for path in self.folder.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def update(self, delete_gone: bool = True) -> None:
        """Upload new and changed files, those that complete a folder last; then delete what is gone.

        After `fetch`, only files that were there then, or were uploaded since, are deleted: another process may have
        added others.

        Parameters
        ----------
        delete_gone : bool
            False: keep what the local folder does not have.

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
        gone = set(self._copies() if delete_gone and exists(self.address) else ()) - set(now)
        if self._seen is not None:
            gone &= self._seen | set(self._done)
        for name in sorted(gone, key=completing_last, reverse=True):
            delete(f"{self.address}/{name}")
            self._done.pop(name, None)

    def _copies(self) -> list[str]:
        return [name for name in files_below(self.address) if self._has_copy(name)]

    def _files(self) -> Iterator[tuple[str, State]]:
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if self._has_copy(name) and path.is_file():
                yield name, _state(path)

    def _has_copy(self, name: str) -> bool:
        parts = name.split("/")
        return parts[0] not in self.local and not any(part.startswith(".") for part in parts)


def _state(file: Path) -> State:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
