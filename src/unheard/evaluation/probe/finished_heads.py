"""Predictions of finished heads on disk, so that an interrupted probe does not train them again.

vectors/heads/HASH.npy, .json    scores (R, m, C); HASH depends on vectors, targets, splits and options

They are deleted when the probe is complete, because the report holds the results.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unheard.evaluation.probe.cache import EmbeddingCache
from unheard.evaluation.probe.heads import Vectors
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol
from unheard.version import __version__


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
