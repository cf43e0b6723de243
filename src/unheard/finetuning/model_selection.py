"""Model selection in fine-tuning: scores and thresholds of the validation clips, and tracking of the best model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from unheard.files import read_json_lines
from unheard.metrics import accuracy, average_precisions, balanced_accuracy, roc_aucs
from unheard.model.classification import clip_losses, probabilities
from unheard.training.early_stopping import EarlyStopping

UNDEFINED_MEANS = {"mAP": 0.0, "mAUC": 0.5}
"""Scores that select a model on clips in which no class has a score: a constant number for every epoch."""


class BestModelTracker(EarlyStopping):
    """Track the best validation of a run, by the first score, then by the loss.

    Without validation clips, the latest step is the best.

    Parameters
    ----------
    folder : Path
        Folder with the ``metrics.jsonl`` of earlier sessions.
    patience : int, optional
        Number of validations without a better score after which training ends.
    """

    def __init__(self, folder: Path, patience: int | None) -> None:
        super().__init__(patience)
        file = folder / "metrics.jsonl"
        for row in read_json_lines(file)[0] if file.is_file() else []:
            self.update(
                {name.removeprefix("valid/"): value for name, value in row.items() if name.startswith("valid/")}
            )

    def update(self, values: dict[str, float]) -> bool:
        """Return whether these scores are the best so far."""
        return self.improved(next(iter(values.values())), -values["loss"]) if values else True


def scores(
    logits: Float[np.ndarray, "n C"],
    target: Float[np.ndarray, "n C"],
    known: Float[np.ndarray, "n C"],
    activation: str,
    undefined: Mapping[str, float] = UNDEFINED_MEANS,
) -> dict[str, float]:
    """Return the scores of logits; the first one selects the model. Classes that are not annotated are ignored.

    A mean over the classes is that of ``undefined`` if no class has a score, NaN if it has none.
    """
    tensors = [torch.from_numpy(np.asarray(each, np.float32)) for each in (logits, target, known)]
    value = float(clip_losses(tensors[0], tensors[1], activation == "sigmoid", tensors[2]).mean())
    if activation == "softmax":
        truth, predicted = target.argmax(axis=1), logits.argmax(axis=1)
        return {
            "balanced_accuracy": balanced_accuracy(truth, predicted),
            "accuracy": accuracy(truth, predicted),
            "loss": value,
        }
    rows = target.astype(np.int64), logits, known > 0
    per_class = {"mAP": average_precisions(*rows), "mAUC": roc_aucs(*rows)}
    means = {name: _mean(values, undefined.get(name, math.nan)) for name, values in per_class.items()}
    return {**means, "loss": value}


def detection_thresholds(
    logits: Float[np.ndarray, "n C"], target: Float[np.ndarray, "n C"], known: Float[np.ndarray, "n C"], activation: str
) -> tuple[float | None, ...]:
    """Return the score of each class from which on a clip counts as detected; None for a class without positive clips.

    It has the highest F1 on these clips, and lies midway between two scores (our choice). If clips have one class each,
    only the class with the highest score of a clip can be detected.
    """
    several = activation == "sigmoid"
    score = probabilities(torch.from_numpy(np.asarray(logits, np.float64)), several).numpy()
    first = np.ones(score.shape, bool) if several else score.argmax(axis=1)[:, None] == np.arange(score.shape[1])
    columns = zip(score.T, (target > 0).T, (known > 0).T, first.T, strict=True)
    return tuple(_threshold(values[there], true[there], can[there]) for values, true, there, can in columns)


def _threshold(score: Float[np.ndarray, " n"], true: np.ndarray, can: np.ndarray) -> float | None:
    """Return the threshold with the highest F1; ``can`` marks the clips that a threshold can select."""
    if not true.any():
        return None
    order = np.argsort(-score, kind="stable")
    score, hit, found = score[order], np.cumsum((true & can)[order]), np.cumsum(can[order])
    f1 = 2 * hit / (found + true.sum())
    below = np.append(score[1:], 0.0)
    f1[score == below] = -1.0  # no threshold lies between equal scores
    best = int(f1.argmax())
    return float((score[best] + below[best]) / 2)


def _mean(values: Float[np.ndarray, " C"], otherwise: float) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else otherwise
