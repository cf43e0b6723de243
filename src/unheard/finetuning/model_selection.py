"""Which weights of a fine-tuning run are kept: scores of validation clips, and the best of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from unheard.files import read_json_lines
from unheard.metrics import accuracy, average_precisions, balanced_accuracy, roc_aucs
from unheard.model.classification import clip_losses
from unheard.training.early_stopping import EarlyStopping

UNDEFINED_MEANS = {"mAP": 0.0, "mAUC": 0.5}  # where no class has a score


class BestModelTracker(EarlyStopping):
    """The best validation of a run: by the first score, then by the loss; without any validation the latest step
    counts.

    Parameters
    ----------
    folder : Path
        Its ``metrics.jsonl`` holds the validations of earlier sessions.
    patience : int, optional
        Validations without a better score after which training ends.
    """

    def __init__(self, folder: Path, patience: int | None) -> None:
        super().__init__(patience)
        file = folder / "metrics.jsonl"
        for row in read_json_lines(file)[0] if file.is_file() else []:
            self.update(
                {name.removeprefix("valid/"): value for name, value in row.items() if name.startswith("valid/")}
            )

    def update(self, found: dict[str, float]) -> bool:
        """Return whether these scores are the best so far."""
        return self.improved(next(iter(found.values())), -found["loss"]) if found else True


def scores(
    logits: Float[np.ndarray, "n C"], target: Float[np.ndarray, "n C"], known: Float[np.ndarray, "n C"], activation: str
) -> dict[str, float]:
    """What logits are worth; the first score is the one that chooses. Classes count in the clips where they are known."""
    tensors = [torch.from_numpy(np.asarray(each, np.float32)) for each in (logits, target, known)]
    value = float(clip_losses(tensors[0], tensors[1], activation == "sigmoid", tensors[2]).mean())
    if activation == "softmax":
        truth, said = target.argmax(axis=1), logits.argmax(axis=1)
        return {"balanced_accuracy": balanced_accuracy(truth, said), "accuracy": accuracy(truth, said), "loss": value}
    rows = target.astype(np.int64), logits, known > 0
    found = {"mAP": average_precisions(*rows), "mAUC": roc_aucs(*rows)}
    return {**{name: _mean(values, UNDEFINED_MEANS[name]) for name, values in found.items()}, "loss": value}


def _mean(values: Float[np.ndarray, " C"], otherwise: float) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else otherwise
