"""Options of probes and evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Head = Literal["linear", "knn", "mlp", "cgp", "prototypes", "attentive"]


@dataclass(frozen=True)
class ProbeOptions:
    """Options of a probe.

    Parameters
    ----------
    head
        Classifier to train; may be repeated. cgp, prototypes and attentive read the patch tokens of all layers, the
        others one vector per clip. Default: linear, knn and mlp.
    prototypes
        Number of prototypes of the heads cgp and prototypes. Default 256; published for AudioSet: 10,000.
    quick
        A first look: one seed, the linear head only unless --head is given, and no learning curve.
    seeds
        Number of seeds for the random encoders, the fold assignment and the MLP initialisation. Default: 3.
    pool
        Pooling of time steps into one vector.
    layer
        Output of this block, 1 to depth, or negative from the end; may be repeated, and the outputs are concatenated.
        Default: the last block, normalised.
    layers
        all: also score every layer, and learned layer weights.
    shots
        Also score logistic regression on this number of training clips of each class, as MAEB does with 8.
    draws
        Number of times that these clips are drawn.
    precision
        Precision of the matrix products of the encoder, also of the random ones. bf16 is faster on processors that
        have it, and slower on others: see unheard doctor.
    """

    head: tuple[Head, ...] = ()
    prototypes: int | None = None
    quick: bool = False
    seeds: int | None = None
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: tuple[int, ...] | None = None
    layers: Literal["all"] | None = None
    shots: int | None = None
    draws: int = 10
    precision: Literal["float32", "bf16"] = "float32"


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of an evaluation.

    Parameters
    ----------
    mode
        heareval: results are comparable with published ones. robust: shuffles each epoch, tolerates NaN losses, trains
        several seeds and is faster. xares: the protocol of X-ARES, on its tasks.
    seeds
        Number of seeds of the modes robust, default 3, and xares, default 1. The mode heareval has one seed.
    exact
        xares: encode without padding, use all crops, choose no epoch on test clips. Scores are then not comparable
        with published ones.
    vocabulary
        xares: the vocab.txt of bert-base-uncased. Without it, Clotho is left out.
    published
        Reproduce the published runtime of MSM-MAE or M2D, to compare with their scores.
    hop
        Seconds between time steps; must divide the duration of a patch. Default: the smallest hop for events, one patch
        for scenes. A larger hop needs less time and disk space.
    pool
        Pooling of time steps into one vector.
    layer
        Output of this block, 1 to depth, or negative from the end; may be repeated, and the outputs are concatenated.
        Default: the last block, normalised.
    """

    mode: Literal["heareval", "robust", "xares"] = "heareval"
    seeds: int | None = None
    exact: bool = False
    vocabulary: Path | None = None
    published: Literal["no", "msm-mae", "m2d"] = "no"
    hop: float | None = None
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: tuple[int, ...] | None = None
