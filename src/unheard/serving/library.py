"""The sound files of FOLDER. Clients name them by id, never by path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from unheard.addresses import address_of, named
from unheard.audio.folders import find_audio
from unheard.errors import DataError, shown, utf8
from unheard.remote.listing import is_file
from unheard.serving.limits import not_found


@dataclass(frozen=True)
class File:
    """A file of FOLDER.

    Parameters
    ----------
    id : str
        Hash of its relative path.
    name : str
        Relative path, for display.
    path : Path
        Below FOLDER, also at an address; may be a link, see `Library.path`.
    group : str
        The first folder in which relative paths differ; empty for a file above it.
    """

    id: str
    name: str
    path: Path
    group: str = ""


class Library:
    """The sound files below a folder, as they were when the server started.

    Links that lead out of the folder are left out, and refused when they appear later. The folder may be at an address;
    a file is copied when it is used.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        When it is not a folder, or holds no sound file.
    RemoteError
        When it is at an address and cannot be listed.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder if address_of(folder) else folder.resolve()
        found = [file for file in find_audio(self.root) if self._inside(file)]
        if not found:
            raise DataError(f"no audio in {shown(folder)}; give a folder with wav, flac, ogg, opus, mp3 or aiff")
        shared = os.path.commonpath([file.parent for file in found])
        self.files = [self._file(path, Path(shared)) for path in found]
        self._by_id = {file.id: file for file in self.files}
        self._by_path = {named(file.path): file for file in self.files}

    def __contains__(self, sound: object) -> bool:
        return sound in self._by_id

    def __getitem__(self, sound: str) -> File:
        if sound not in self._by_id:
            raise not_found(sound)
        return self._by_id[sound]

    def of_path(self, path: str) -> File | None:
        """Return the file with an absolute path or an address, or None."""
        return self._by_path.get(path)

    def path(self, sound: str) -> Path:
        """Return the real path of a file by its id, or its address.

        Raises
        ------
        RefusedError
            With status 404, when there is no such file, it was deleted, or a link leads out of the folder.
        """
        file = self[sound]
        if not self._inside(file.path) or not is_file(file.path):
            raise not_found(sound)
        return file.path if address_of(file.path) else file.path.resolve()

    def _inside(self, path: Path) -> bool:
        return bool(address_of(self.root)) or path.resolve().is_relative_to(self.root)

    def _file(self, path: Path, shared: Path) -> File:
        name, below = path.relative_to(self.root).as_posix(), path.relative_to(shared).parts
        group = utf8(below[0]) if len(below) > 1 else ""
        return File(f"f{blake2b(os.fsencode(name), digest_size=8).hexdigest()}", utf8(name), path, group)
