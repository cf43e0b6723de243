"""The scores of HEAR tasks by name, as heareval 2021.1.3 computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unheard.evaluation.events import Events, event_f, segment_error_rate
from unheard.metrics import average_precisions, d_prime, roc_aucs

Target = Int[np.ndarray, "n C"]
Probability = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class Score:
    """One score: of frame or clip probabilities, or of events.

    Parameters
    ----------
    compute : callable
        (target, probability) -> float, or (reference, estimated events) -> sub-scores, the first of which is the score.
    event : bool
    smaller : bool
        Whether less is better.
    """

    compute: Callable[..., Any]
    event: bool = False
    smaller: bool = False


def top1(target: Target, probability: Probability) -> float:
    """Share of rows whose highest probability is at their first label."""
    return float(np.mean(target.argmax(axis=1) == probability.argmax(axis=1)))


def chroma(target: Target, probability: Probability) -> float:
    """`top1` with both indices modulo 12: octaves of a note count as the note."""
    return float(np.mean(target.argmax(axis=1) % 12 == probability.argmax(axis=1) % 12))


def mean_precision(target: Target, probability: Probability) -> float:
    """Mean average precision over labels; a label without positives counts as 0, as in scikit-learn."""
    return float(np.mean(np.nan_to_num(average_precisions(target, probability), nan=0.0)))


def auc(target: Target, probability: Probability) -> float:
    """Mean area under the ROC; NaN when a label has one side only."""
    return float(np.mean(roc_aucs(target, probability)))


def sensitivity(target: Target, probability: Probability) -> float:
    """Mean d' over labels, each from its own area under the ROC; NaN where one is infinite and another minus infinite."""
    with np.errstate(invalid="ignore"):
        return float(np.mean([d_prime(value) for value in roc_aucs(target, probability)]))


def _onset(collar: float, share: float | None = None) -> Score:
    return Score(lambda reference, estimated: event_f(reference, estimated, collar, share), event=True)


def _error(reference: Events, estimated: Events) -> dict[str, float]:
    return {"error_rate": segment_error_rate(reference, estimated)}


SCORES: dict[str, Score] = {
    "top1_acc": Score(top1),
    "pitch_acc": Score(top1),
    "chroma_acc": Score(chroma),
    "mAP": Score(mean_precision),
    "aucroc": Score(auc),
    "d_prime": Score(sensitivity),
    "event_onset_200ms_fms": _onset(0.2),
    "event_onset_50ms_fms": _onset(0.05),
    "event_onset_offset_50ms_20perc_fms": _onset(0.05, 0.2),
    "segment_1s_er": Score(_error, event=True, smaller=True),
}
"""Every score a task may ask for."""


def score_events(name: str, reference: Events, estimated: Events) -> dict[str, float]:
    """An event score under its name, and its sub-scores under ``name_subscore``."""
    found: dict[str, float] = SCORES[name].compute(reference, estimated)
    return {name: next(iter(found.values())), **{f"{name}_{sub}": value for sub, value in found.items()}}
