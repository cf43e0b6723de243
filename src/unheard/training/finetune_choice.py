"""Which weights of a fine-tuning run are kept: scores of validation clips, and the best of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from unheard.files import read_json_lines
from unheard.metrics import accuracy, average_precision, balanced_accuracy, roc_auc
from unheard.training.finetune_network import loss

UNDEFINED_MEANS = {"mAP": 0.0, "mAUC": 0.5}  # where no class has a score


class Best:
    """Remembers the best validation score of a journal; equal scores are told apart by the loss, and without any the latest wins.

    Parameters
    ----------
    folder : Path
        Its ``metrics.jsonl`` tells of what an earlier session saw.
    patience : int, optional
        Epochs without a better score that are enough.
    """

    def __init__(self, folder: Path, patience: int | None) -> None:
        self.patience, self.since = patience, 0
        self.best = (-np.inf, -np.inf)
        file = folder / "metrics.jsonl"
        for row in read_json_lines(file)[0] if file.is_file() else []:
            self.look({name.removeprefix("valid/"): value for name, value in row.items() if name.startswith("valid/")})

    def look(self, found: dict[str, float]) -> bool:
        """Whether these scores, the first of them before all, are the best so far."""
        if not found:
            return True
        mine = (next(iter(found.values())), -found["loss"])
        better = mine > self.best
        self.best, self.since = (mine, 0) if better else (self.best, self.since + 1)
        return better

    @property
    def enough(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.since >= self.patience


def scores(
    logits: Float[np.ndarray, "n C"], target: Float[np.ndarray, "n C"], known: Float[np.ndarray, "n C"], activation: str
) -> dict[str, float]:
    """What logits are worth; the first score is the one that chooses. Classes count in the clips where they are known."""
    tensors = [torch.from_numpy(np.asarray(each, np.float32)) for each in (logits, target, known)]
    value = float(loss(tensors[0], tensors[1], tensors[2], activation))
    if activation == "softmax":
        truth, said = target.argmax(axis=1), logits.argmax(axis=1)
        return {"balanced_accuracy": balanced_accuracy(truth, said), "accuracy": accuracy(truth, said), "loss": value}
    each = [average_precision(y[k > 0].astype(np.int64), x[k > 0]) for y, x, k in zip(target.T, logits.T, known.T, strict=True)]
    areas = [roc_auc(y[k > 0].astype(np.int64), x[k > 0]) for y, x, k in zip(target.T, logits.T, known.T, strict=True)]
    return {**{name: _mean(found, UNDEFINED_MEANS[name]) for name, found in (("mAP", each), ("mAUC", areas))}, "loss": value}


def _mean(values: list[float], otherwise: float) -> float:
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else otherwise
