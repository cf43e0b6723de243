"""Cache of the vectors of a probe on disk.

vectors/NAME.npy     the array
vectors/NAME.json    made_of: hash of the model, the sounds and the embedding options; checksum of the array
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.data.label_table import Labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import fingerprint
from unheard.embedding.job import Options
from unheard.errors import DataError, warn_damaged
from unheard.files import FILES, atomic_write, differing_files, file_checksums, read_json, write_json
from unheard.version import __version__

FOLDER = "vectors"


class EmbeddingCache:
    """Named arrays in a folder.

    Parameters
    ----------
    folder : Path
    fingerprint : str
        Hash of the inputs; see `vectors_fingerprint`.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def __call__(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the cached array of a name; if there is none, compute it with ``make`` and cache it.

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
                f"cannot write the vectors of the probe to {self.folder}: {error}; choose another -o"
            ) from error
        return made

    def _read(self, file: Path) -> NDArray[Any] | None:
        """Return a valid cached array; None if it is missing, outdated or damaged (with a warning)."""
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


def vectors_fingerprint(model: EmbeddingModel, labels: Labels, content: Sequence[str], options: Options) -> str:
    """Return a hash of all inputs of the vectors; labels and splits are not part of it.

    Parameters
    ----------
    content : sequence of str
        Hash of the audio bytes of each row.
    """
    clips = list(zip(content, labels.start, labels.end, strict=True))
    return hashlib.sha256(repr((__version__, fingerprint(model), options, clips)).encode()).hexdigest()
