"""Vectors of a probe on disk, so that one that was interrupted, or is made again, embeds nothing twice.

vectors/NAME.npy     the array
vectors/NAME.json    made_of: a digest of the model, the sounds and how they were embedded; checksum of the array
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.data.label_table import Labels
from unheard.embedding.embedder import Model, Options
from unheard.embedding.identity import fingerprint
from unheard.errors import DataError, warn_damaged
from unheard.files import FILES, atomic_write, differing_files, file_checksums, read_json, write_json
from unheard.version import __version__

FOLDER = "vectors"


class EmbeddingCache:
    """Arrays in a folder, each under a name.

    Parameters
    ----------
    folder : Path
    made_of : str
        Changes when the arrays would; see `made_of`.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def __call__(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array that is kept under a name, or else the one that ``make`` gives, kept from now on.

        Raises
        ------
        DataError
            When the folder cannot be written.
        """
        file = self.folder / f"{name}.npy"
        if (cached := self._read(file)) is not None:
            return cached
        made = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as unfinished, unfinished.open("wb") as stream:
                np.save(stream, made)
            write_json(
                file.with_suffix(".json"),
                {"made_of": self.fingerprint, FILES: file_checksums(self.folder, [file.name])},
            )
        except OSError as error:
            raise DataError(
                f"cannot keep the vectors of the probe in {self.folder}: {error}; make room, or choose another -o"
            ) from error
        return made

    def _read(self, file: Path) -> NDArray[Any] | None:
        """An array of the same making; None where there is none, or it is damaged, with a warning."""
        try:
            stored = read_json(file.with_suffix(".json"))
        except FileNotFoundError:
            return None
        except (DataError, OSError):
            warn_damaged(file.with_suffix(".json"))
            return None
        if stored["made_of"] != self.fingerprint:
            return None
        if differing_files(self.folder, stored[FILES]):
            warn_damaged(file)
            return None
        return np.asarray(np.load(file))


def vectors_fingerprint(model: Model, labels: Labels, content: Sequence[str], options: Options) -> str:
    """A digest of all that vectors depend on; labels and sides are not among it.

    Parameters
    ----------
    content : sequence of str
        Hash of the bytes behind each row.
    """
    clips = list(zip(content, labels.start, labels.end, strict=True))
    return hashlib.sha256(repr((__version__, fingerprint(model), options, clips)).encode()).hexdigest()
