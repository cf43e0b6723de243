"""Scores of HEAR tasks by name, computed as in heareval 2021.1.3."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unheard.bootstrap import (
    Counts,
    Statistic,
    average_precisions_statistic,
    mean_statistic,
    ratio_statistic,
    roc_aucs_statistic,
)
from unheard.evaluation.hear.events import EPSILON, Events, event_counts, event_f, segment_counts, segment_error_rate
from unheard.metrics import average_precisions, d_prime, roc_aucs

Target = Int[np.ndarray, "n C"]
Probability = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Score:
    """A score of clip or frame probabilities, or of events.

    Parameters
    ----------
    compute : callable
        (target, probability) -> float, or (reference, estimated events) -> sub-scores; the first one is the score.
    statistic : callable
        (target, probability) -> the score as a statistic of resampled rows, or
        (reference, estimated events, files) -> the score as a statistic of resampled files.
    event : bool
        Whether it is a score of events.
    smaller : bool
        Whether smaller values are better.
    """

    compute: Callable[..., Any]
    statistic: Callable[..., Statistic]
    event: bool = False
    smaller: bool = False


def top1(target: Target, probability: Probability) -> float:
    """Return the fraction of rows whose highest probability is that of their first label."""
    return float(np.mean(target.argmax(axis=1) == probability.argmax(axis=1)))


def chroma(target: Target, probability: Probability) -> float:
    """Return `top1` with both indices modulo 12: octaves of a note are correct."""
    return float(np.mean(target.argmax(axis=1) % 12 == probability.argmax(axis=1) % 12))


def mean_precision(target: Target, probability: Probability) -> float:
    """Return the mean average precision over labels; a label without positive rows counts as 0, as in scikit-learn."""
    return float(np.mean(np.nan_to_num(average_precisions(target, probability), nan=0.0)))


def auc(target: Target, probability: Probability) -> float:
    """Return the mean area under the ROC over labels; NaN if a label has only positive or only negative rows."""
    return float(np.mean(roc_aucs(target, probability)))


def sensitivity(target: Target, probability: Probability) -> float:
    """Return the mean d' over labels, from the area under each ROC; NaN if infinities of both signs occur."""
    with np.errstate(invalid="ignore"):
        return float(np.mean([d_prime(value) for value in roc_aucs(target, probability)]))


def _correct(modulo: int | None = None) -> Callable[[Target, Probability], Statistic]:
    """Return the statistic of `top1`, or of `chroma` with ``modulo`` 12."""

    def statistic(target: Target, probability: Probability) -> Statistic:
        true, likeliest = target.argmax(axis=1), probability.argmax(axis=1)
        return mean_statistic(true % modulo == likeliest % modulo if modulo else true == likeliest)

    return statistic


def _mean_precision(target: Target, probability: Probability) -> Statistic:
    precisions = average_precisions_statistic(target, probability)
    return lambda counts: np.nan_to_num(precisions(counts), nan=0.0).mean(axis=0)


def _auc(target: Target, probability: Probability) -> Statistic:
    areas = roc_aucs_statistic(target, probability)
    return lambda counts: areas(counts).mean(axis=0)


def _sensitivity(target: Target, probability: Probability) -> Statistic:
    areas, of_area = roc_aucs_statistic(target, probability), np.vectorize(d_prime, otypes=[np.float64])

    def statistic(counts: Counts) -> Float[np.ndarray, " R"]:
        with np.errstate(invalid="ignore"):
            return np.asarray(of_area(areas(counts)).mean(axis=0))

    return statistic


def _onset(collar: float, share: float | None = None) -> Score:
    def statistic(reference: Events, estimated: Events, files: int) -> Statistic:
        hits, found, true = event_counts(reference, estimated, files, collar, share)
        f_measure = ratio_statistic(2 * hits, found + true)
        return lambda counts: np.where((found @ counts > 0) & (true @ counts > 0), f_measure(counts), math.nan)

    return Score(lambda reference, estimated: event_f(reference, estimated, collar, share), statistic, event=True)


def _error(reference: Events, estimated: Events) -> dict[str, float]:
    return {"error_rate": segment_error_rate(reference, estimated)}


def _error_statistic(reference: Events, estimated: Events, files: int) -> Statistic:
    wrong, active = segment_counts(reference, estimated, files)
    return lambda counts: (wrong @ counts) / (active @ counts + EPSILON)


SCORES: dict[str, Score] = {
    "top1_acc": Score(top1, _correct()),
    "pitch_acc": Score(top1, _correct()),
    "chroma_acc": Score(chroma, _correct(12)),
    "mAP": Score(mean_precision, _mean_precision),
    "aucroc": Score(auc, _auc),
    "d_prime": Score(sensitivity, _sensitivity),
    "event_onset_200ms_fms": _onset(0.2),
    "event_onset_50ms_fms": _onset(0.05),
    "event_onset_offset_50ms_20perc_fms": _onset(0.05, 0.2),
    "segment_1s_er": Score(_error, _error_statistic, event=True, smaller=True),
}
"""All scores by name."""


def score_events(name: str, reference: Events, estimated: Events) -> dict[str, float]:
    """Return an event score by its name, and its sub-scores by ``name_subscore``."""
    found: dict[str, float] = SCORES[name].compute(reference, estimated)
    return {name: next(iter(found.values())), **{f"{name}_{sub}": value for sub, value in found.items()}}
