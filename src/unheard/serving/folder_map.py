"""The 2-D map of FOLDER: projections and clusters, computed once and cached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from unheard.errors import require
from unheard.evaluation.probe.cache import EmbeddingCache
from unheard.evaluation.probe.heads import standardise
from unheard.evaluation.probe.projection import COMPONENTS, draw_map
from unheard.serving.folder_vectors import Embedded

SEED = 0
RESTARTS = 4  # of k-means; our choice


@dataclass(frozen=True)
class FolderMap:
    """Projections of the files of a folder.

    Parameters
    ----------
    rows : Int[ndarray, "k"]
        Rows of the embeddings.
    pca, tsne : Float[ndarray, "k 2"]
    variance : float
        Fraction of the variance explained by the two principal components.
    """

    rows: Int[np.ndarray, " k"]
    pca: Float[np.ndarray, "k 2"]
    tsne: Float[np.ndarray, "k 2"]
    variance: float


def folder_map(found: Embedded, cache: Path) -> FolderMap:
    """Return the map of a folder, from the cache if it is there.

    Raises
    ------
    UnheardError
        When scikit-learn is not installed.
    """

    def make() -> Float[np.ndarray, "k 6"]:
        made = draw_map(found.vectors, SEED)
        variance = np.full((len(made.clips), 1), made.variance)
        return np.concatenate([made.clips[:, None], made.pca, made.tsne, variance], axis=1)

    table = EmbeddingCache(cache / "map", found.key)("map", make)
    return FolderMap(table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3:5], float(table[0, 5]))


def clusters(found: Embedded, rows: Int[np.ndarray, " k"], count: int) -> Int[np.ndarray, " k"]:
    """Return the cluster of each row by k-means on principal components; the largest cluster is 0.

    Raises
    ------
    UnheardError
        When scikit-learn is not installed.
    """
    require("sklearn", "serve", "scikit-learn")
    from sklearn.cluster import KMeans

    values = standardise(found.vectors[rows], found.vectors[:0])[0]
    left, size, _ = np.linalg.svd(values, full_matrices=False)
    places = (left * size)[:, :COMPONENTS]
    distinct = len(np.unique(places.round(9), axis=0))
    chosen = KMeans(min(count, distinct), n_init=RESTARTS, random_state=SEED).fit_predict(places)
    order = np.argsort(-np.bincount(chosen), kind="stable")
    return np.asarray(np.argsort(order)[chosen])
