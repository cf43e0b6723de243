"""Clips as points on a plane: principal components, and t-SNE neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unheard.errors import require
from unheard.evaluation.probe.heads import standardise

MOST_POINTS = 2000  # clips on the map; our choice: more are neither legible nor quick
COMPONENTS = 50  # that t-SNE sees, as its authors advise (van der Maaten and Hinton 2008)
PERPLEXITY = 30.0  # scikit-learn's default; at most a third of the points, as that paper needs


@dataclass(frozen=True)
class Projection2D:
    """Clips on two planes.

    Parameters
    ----------
    clips : Int[ndarray, "k"]
        Rows of the table.
    pca, tsne : Float[ndarray, "k 2"]
        Places; t-SNE keeps neighbours together, its distances mean nothing.
    variance : float
        Share of the variance that the two principal components show.
    """

    clips: Int[np.ndarray, " k"]
    pca: Float[np.ndarray, "k 2"]
    tsne: Float[np.ndarray, "k 2"]
    variance: float


def draw_map(vectors: Float[np.ndarray, "n D"], seed: int) -> Projection2D:
    """Lay out clips, at most `MOST_POINTS` of them, by their standardised vectors.

    Raises
    ------
    UnheardError
        When scikit-learn is not installed.
    """
    clips = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:MOST_POINTS])
    rows = standardise(vectors[clips], vectors[:0])[0]
    left, size, _ = np.linalg.svd(rows, full_matrices=False)
    places = left * size
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    variance = float(np.square(size[:2]).sum() / max(np.square(size).sum(), 1e-300))
    return Projection2D(clips, places[:, :2], _tsne(places[:, :COMPONENTS], seed), variance)


def _tsne(places: Float[np.ndarray, "k P"], seed: int) -> Float[np.ndarray, "k 2"]:
    """t-SNE from principal components; the first two of these where there are too few different points for it."""
    require("sklearn", "eval", "scikit-learn")
    from sklearn.manifold import TSNE

    if len(np.unique(places.round(9), axis=0)) < 4:
        return places[:, :2]
    start = places[:, :2] / max(float(places[:, 0].std()), 1e-12) * 1e-4  # what init="pca" does
    made = TSNE(perplexity=min(PERPLEXITY, (len(places) - 1) / 3), init=start.astype(np.float32), random_state=seed)
    return np.asarray(made.fit_transform(places.astype(np.float32)), np.float64)
