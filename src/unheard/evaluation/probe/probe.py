"""Probes on frozen embeddings, compared with baselines.

Several embeddings of the same clips are scored, because a random encoder is a strong baseline on small corpora. Test
clips are never used for selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from unheard.bootstrap import N_RESAMPLES
from unheard.data.label_table import Labels, read_labels
from unheard.errors import ConfigError, DataError
from unheard.evaluation.difference import adjusted
from unheard.evaluation.head_training import one_thread
from unheard.evaluation.probe.cache import FinishedHeads
from unheard.evaluation.probe.caveats import leakage_warnings
from unheard.evaluation.probe.classes import answers, class_scores, confusions
from unheard.evaluation.probe.curve import learning_curve
from unheard.evaluation.probe.few_shot import few_shot_scores
from unheard.evaluation.probe.heads import NEIGHBOURS, Table, Vectors, knn
from unheard.evaluation.probe.layers import LAYER_MIX, Layers, layer_scores
from unheard.evaluation.probe.linear import LinearHeads
from unheard.evaluation.probe.mlp import mlp
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol, ProtocolSplit
from unheard.evaluation.probe.report import ProbeReport, Score
from unheard.evaluation.probe.steps import Clips
from unheard.evaluation.probe.token_heads.fit import PROTOTYPES, TokenSource, token_head
from unheard.progress import Track, silent

__all__ = ["HEADS", "NEIGHBOURS", "ProbeConfig", "ProbeReport", "Score", "probe_embeddings", "read_labels"]

HEADS = ("linear", "knn", "mlp")
"""Heads on one vector of a clip; the default."""
TOKEN_HEADS = ("cgp", "prototypes", "attentive")
"""Heads on the tokens of all layers."""
ALL_HEADS = (*HEADS, *TOKEN_HEADS)


@dataclass(frozen=True)
class ProbeConfig:
    """Options for fitting and scoring.

    Parameters
    ----------
    seeds : tuple of int
        One run per seed. The seed determines the folds if the table has neither split nor fold, the initial weights of
        the MLP, and the clips of the learning curve.
    heads : tuple of str
        Subset of `ALL_HEADS`.
    C : float, optional
        Inverse regularisation of the linear head. Default: selected on the validation clips, or by three-fold
        cross-validation on the training clips.
    n_resamples : int
        Number of bootstrap resamples for each interval.
    curve : bool
        Also score the linear head on fractions of the training clips.
    shots, draws : int
        Also score `draws` classifiers on ``shots`` training clips of each class, see `few_shot_scores`.
    prototypes : int
        Number of prototypes K of the heads cgp and prototypes.
    finished : Path, optional
        Folder for the predictions of finished heads until the probe is complete, see `FinishedHeads`.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    heads: tuple[str, ...] = HEADS
    C: float | None = None
    n_resamples: int = N_RESAMPLES
    curve: bool = True
    shots: int | None = None
    draws: int = 10
    prototypes: int = PROTOTYPES
    finished: Path | None = None


@dataclass(frozen=True)
class InnerOutputs:
    """Outputs of the layers of encoders.

    Parameters
    ----------
    layers : Float[ndarray, "n L D"], optional
        Vectors of all layers of the first embedding, to score each layer and learned layer weights.
    tokens : mapping of str to callable
        Tokens of an embedding in a run, for `TOKEN_HEADS`. Embeddings without tokens do not have these heads.
    """

    layers: Layers | None = None
    tokens: Mapping[str, TokenSource] = field(default_factory=dict)


def probe_embeddings(
    embeddings: Mapping[str, NDArray[Any]],
    labels: Labels,
    how: ProbeConfig | None = None,
    track: Track = silent,
    *,
    inner: InnerOutputs = InnerOutputs(),
    content: Sequence[str] | None = None,
    statistics: Float[np.ndarray, "n S"] | None = None,
) -> ProbeReport:
    """Score embeddings of labelled clips.

    Parameters
    ----------
    embeddings : mapping of str to array
        Name -> vectors in the order of ``labels``, (n, D), or (R, n, D) for R runs, one for each seed, such as random
        encoders. The first embedding is compared with the others.
    labels : Labels
        Result of `read_labels`; split, fold and group determine the test clips, see `partitions`.
    inner : InnerOutputs
    content, statistics : optional
        Inputs of `leakage_warnings`, to detect clips in both training and test.

    Returns
    -------
    ProbeReport
        Accuracy and balanced accuracy for single-label tables, mean average precision (mAP) for multilabel tables.

    Raises
    ------
    DataError
        When vectors are not finite or do not match the labels, a split has a single class, or a tested class is missing
        from training.

    Examples
    --------
    >>> report = probe({"model": vectors}, read_labels("labels.csv"))  # doctest: +SKIP
    >>> print(report.table())  # doctest: +SKIP
    """
    how = how or ProbeConfig()
    if (needing := [head for head in how.heads if head in TOKEN_HEADS]) and next(iter(embeddings)) not in inner.tokens:
        raise DataError(f"the heads {', '.join(needing)} need tokens of the first embedding; give them as inner.tokens")
    runs = {name: _runs(name, vectors, labels, len(how.seeds)) for name, vectors in embeddings.items()}
    protocol = ProbeProtocol.of(labels, how.seeds, how.n_resamples)
    first = next(iter(runs))
    with one_thread():
        heads = LinearHeads(protocol, runs, how.C)
        finished = FinishedHeads(how.finished, protocol, (how.C, how.prototypes))
        predictions = _predictions(heads, how, inner.tokens, finished, track)
        report = _compared(protocol, predictions, first)
        main = main_head(how.heads)
        plain = predictions[first, main]
        if how.curve and (first, "linear") in predictions:
            points, half = learning_curve(heads, {name: predictions[name, "linear"] for name in runs}, finished, track)
            label_doubling_gain = protocol.difference("linear", "half of the labels", plain, half)
            report = replace(report, curve=points, label_doubling_gain=label_doubling_gain)
        if inner.layers is not None:
            _refuse_unusable("layers", np.moveaxis(inner.layers, 1, 0), labels)
            found, layer_mix = layer_scores(heads, first, inner.layers, track)
            scores = [*report.scores, *protocol.scores(LAYER_MIX, "linear", layer_mix)]
            report = replace(report, layers=found, scores=scores)
        if how.shots:
            report = replace(report, few_shot=few_shot_scores(protocol, runs, how.shots, how.draws, track))
        report = replace(report, warnings=leakage_warnings(protocol, main, plain, content, statistics))
        finished.clear()
        return report


def chosen_heads(heads: Sequence[str], prototypes: int | None) -> tuple[tuple[str, ...], int]:
    """Return the heads to train, by default `HEADS`, and the number of prototypes.

    Raises
    ------
    ConfigError
        When a head does not exist, or the number is too small or has no effect.
    """
    if unknown := [head for head in heads if head not in ALL_HEADS]:
        raise ConfigError(f"there is no head {unknown[0]!r}; the heads are {', '.join(ALL_HEADS)}")
    if prototypes is None:
        return tuple(dict.fromkeys(heads)) or HEADS, PROTOTYPES
    if not {"cgp", "prototypes"} & set(heads):
        raise ConfigError("--prototypes has no effect; add --head cgp or --head prototypes, or leave it out")
    if prototypes < 1:
        raise ConfigError(f"--prototypes must be at least 1; got {prototypes}")
    return tuple(dict.fromkeys(heads)), prototypes


def main_head(heads: Sequence[str]) -> str:
    """Return the head of the per-class results: linear, or the first one if linear was not chosen."""
    return "linear" if "linear" in heads else heads[0]


def _predictions(
    heads: LinearHeads, how: ProbeConfig, tokens: Mapping[str, TokenSource], finished: FinishedHeads, track: Track
) -> dict[tuple[str, str], Predictions]:
    """Return the predictions of every embedding with every head that it can have."""
    jobs = [(name, head) for name in heads.runs for head in how.heads if head in HEADS or name in tokens]
    found = {}
    for name, head in track(jobs, len(jobs), "probe"):
        train = partial(_ask, heads, name, head, how, tokens[name] if head in TOKEN_HEADS else None)
        found[name, head] = finished(heads.runs[name], head, train)
    return found


def _ask(heads: LinearHeads, name: str, head: str, how: ProbeConfig, tokens: TokenSource | None = None) -> Predictions:
    vectors, labels = heads.runs[name], heads.protocol.labels
    if head == "linear":
        return heads.answers(name)

    def fit_predict(run: int, part: ProtocolSplit) -> Table:
        rows, target = vectors[run], labels.ternary_targets
        if head == "knn":
            return knn(rows[part.train], target[part.train], rows[part.test])
        clips = Clips(target, part.train, part.test, part.inner_splits, how.seeds[run], labels.multilabel)
        return mlp(rows, clips) if tokens is None else token_head(tokens(run), head, clips, how.prototypes)

    return heads.protocol.answers(fit_predict, same=head == "knn" and all(run is vectors[0] for run in vectors))


def _compared(protocol: ProbeProtocol, predictions: Mapping[tuple[str, str], Predictions], first: str) -> ProbeReport:
    """Return the scores and per-class results, and the comparison of the first embedding with the others."""
    plain = predictions[first, main_head([head for name, head in predictions if name == first])][0]
    return ProbeReport(
        protocol.labels.classes,
        len(protocol.labels),
        len(protocol.test_indices),
        protocol.metric,
        protocol.chance(),
        [score for (name, head), answer in predictions.items() for score in protocol.scores(name, head, answer)],
        differences=adjusted(
            [
                protocol.difference(head, name, predictions[first, head], answer)
                for (name, head), answer in predictions.items()
                if name != first
            ]
        ),
        per_class=[
            row for (name, head), answer in predictions.items() for row in class_scores(protocol, name, head, answer[0])
        ],
        confusion=confusions(protocol, plain),
        answers=answers(protocol, plain),
        resampling_unit="groups" if protocol.groups < len(protocol.test_indices) else "clips",
    )


def _runs(name: str, vectors: NDArray[Any], labels: Labels, seeds: int) -> list[Vectors]:
    """Return one (n, D) array of float64 per seed."""
    shape, clips = vectors.shape, len(labels)
    if vectors.ndim not in (2, 3) or shape[-2] != clips or (vectors.ndim == 3 and shape[0] != seeds):
        raise DataError(
            f"{name}: embeddings have the shape {shape} for {clips} labelled clips; expected ({clips}, D) or ({seeds},"
            f" {clips}, D)"
        )
    _refuse_unusable(name, vectors, labels)
    if vectors.ndim == 2:
        return [vectors.astype(np.float64)] * seeds
    return [run.astype(np.float64) for run in vectors]


def _refuse_unusable(name: str, vectors: NDArray[Any], labels: Labels) -> None:
    """Raise an error if vectors (..., n, D) are not finite."""
    bad = np.flatnonzero(
        ~np.isfinite(vectors).all(axis=tuple(axis for axis in range(vectors.ndim) if axis != vectors.ndim - 2))
    )
    if len(bad):
        raise DataError(
            f"{name}: embeddings of {len(bad)} of {len(labels)} clips are not finite, the first of"
            f" {labels.paths[bad[0]]}; embed these clips again, or remove them from the table"
        )
