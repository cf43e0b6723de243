"""Vectors of a probe on disk, so that one that was interrupted, or is made again, embeds nothing twice.

vectors/NAME.npz    vectors: the array    made_of: a digest of the model, the sounds and how they were embedded
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unheard.data.label_table import Labels
from unheard.embedding.embedder import Model, Options
from unheard.errors import DataError
from unheard.evaluation.own_encoder import fingerprint
from unheard.files import atomic_write
from unheard.version import __version__

FOLDER = "vectors"


class Kept:
    """Arrays in a folder, each under a name.

    Parameters
    ----------
    folder : Path
    made_of : str
        Changes when the arrays would; see `made_of`.
    """

    def __init__(self, folder: Path, made_of: str) -> None:
        self.folder, self.made_of = folder, made_of

    def __call__(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array that is kept under a name, or else the one that ``make`` gives, kept from now on.

        Raises
        ------
        DataError
            When the folder cannot be written.
        """
        file = self.folder / f"{name}.npz"
        if (kept := self._read(file)) is not None:
            return kept
        made = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as unfinished, unfinished.open("wb") as stream:
                np.savez(stream, vectors=made, made_of=np.array(self.made_of))
        except OSError as error:
            raise DataError(f"cannot keep the vectors of the probe in {self.folder}: {error}; make room, or choose another -o") from error
        return made

    def _read(self, file: Path) -> NDArray[Any] | None:
        """An array of the same making; None where there is none that can be read."""
        try:
            with np.load(file) as held:
                return np.asarray(held["vectors"]) if str(held["made_of"]) == self.made_of else None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None


def made_of(model: Model, labels: Labels, content: Sequence[str], options: Options) -> str:
    """A digest of all that vectors depend on; labels and sides are not among it.

    Parameters
    ----------
    content : sequence of str
        Hash of the bytes behind each row.
    """
    clips = list(zip(content, labels.start, labels.end, strict=True))
    return hashlib.sha256(repr((__version__, fingerprint(model), model.pad_window, options, clips)).encode()).hexdigest()
