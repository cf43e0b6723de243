"""Cache of the vectors of a probe on disk, and of the predictions of its finished heads.

vectors/NAME.npy           the array
vectors/NAME.json          made_of: hash of the model, the sounds and the embedding options; checksum of the array
vectors/heads/HASH.npy     scores (R, m, C); HASH depends on vectors, targets, splits and options

The folder of the heads is deleted when the probe is complete, because the report holds the results.
"""

from __future__ import annotations

import hashlib
import shutil
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
from unheard.evaluation.probe.heads import Vectors
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol
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


class FinishedHeads:
    """Predictions by vectors and head.

    Parameters
    ----------
    folder : Path or None
        None: nothing is stored.
    protocol : ProbeProtocol
    options : tuple
        Values on which the training of the heads depends, apart from vectors and splits.
    """

    def __init__(self, folder: Path | None, protocol: ProbeProtocol, options: tuple[object, ...] = ()) -> None:
        self.folder = folder
        digest = hashlib.sha256(repr((__version__, protocol.seeds, protocol.labels.multilabel, options)).encode())
        arrays = [protocol.labels.ternary_targets]
        for part in (part for parts in protocol.runs for part in parts):
            arrays += [part.train, part.valid, part.test, *(side for sides in part.inner_splits for side in sides)]
        for array in arrays if folder is not None else ():
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        self._inputs = digest

    def __call__(self, vectors: Sequence[Vectors], head: str, train: Callable[[], Predictions]) -> Predictions:
        """Return the stored predictions of a head on these vectors; if there are none, train it and store them.

        Raises
        ------
        DataError
            When the folder cannot be written.
        """
        if self.folder is None:
            return train()
        digest = self._inputs.copy()
        digest.update(head.encode())
        for number, run in enumerate(vectors):
            if number == 0 or run is not vectors[0]:
                digest.update(run.tobytes())
        key = digest.hexdigest()
        return list(EmbeddingCache(self.folder, key)(key[:24], lambda: np.stack(train())))

    def clear(self) -> None:
        """Delete the stored predictions."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
