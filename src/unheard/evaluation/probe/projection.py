"""2-D projections of clips: PCA and t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unheard.errors import require
from unheard.evaluation.probe.heads import standardise

MOST_POINTS = 2000  # maximum number of clips; our choice: more are neither legible nor fast
COMPONENTS = 50  # principal components as input of t-SNE (van der Maaten and Hinton 2008)
PERPLEXITY = 30.0  # default of scikit-learn; at most a third of the points, as required by that paper


@dataclass(frozen=True)
class Projection2D:
    """Two projections of clips.

    Parameters
    ----------
    clips : Int[ndarray, "k"]
        Rows of the table.
    pca, tsne : Float[ndarray, "k 2"]
        Coordinates. t-SNE preserves neighbours; its distances are not meaningful.
    variance : float
        Fraction of the variance explained by the two principal components.
    """

    clips: Int[np.ndarray, " k"]
    pca: Float[np.ndarray, "k 2"]
    tsne: Float[np.ndarray, "k 2"]
    variance: float


def draw_map(vectors: Float[np.ndarray, "n D"], seed: int) -> Projection2D:
    """Project the standardised vectors of at most `MOST_POINTS` clips.

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
    """Return t-SNE of principal components; with too few distinct points, the first two components."""
    require("sklearn", "eval", "scikit-learn")
    from sklearn.manifold import TSNE

    if len(np.unique(places.round(9), axis=0)) < 4:
        return places[:, :2]
    start = places[:, :2] / max(float(places[:, 0].std()), 1e-12) * 1e-4  # what init="pca" does
    made = TSNE(perplexity=min(PERPLEXITY, (len(places) - 1) / 3), init=start.astype(np.float32), random_state=seed)
    return np.asarray(made.fit_transform(places.astype(np.float32)), np.float64)
