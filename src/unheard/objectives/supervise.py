"""Classification from the visible patches: the supervised branch of SupMAM.

Xin, Peng, Lu: "Masked Audio Modeling with CLAP and Multi-Objective Learning", Interspeech 2023 (arXiv 2401.15953),
after SupMAE (Liang, Li, Marculescu 2022, arXiv 2205.14540). SupMAE's head is a two-layer MLP with BatchNorm, its loss
cross-entropy at weight 0.01. LayerNorm, binary cross-entropy and weight 1 are our choices for clips with several
labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.config import Positive, Weight
from unheard.errors import ConfigError
from unheard.model.classification import clip_losses
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.transformer import NORM_EPS, initialise
from unheard.objectives.base import Batch, Objective, Totals, masked_mean
from unheard.objectives.registry import register

EXPANSION = 4  # hidden width of the head over the encoder's: SupMAE, 768 to 3072


@dataclass(frozen=True)
class SuperviseConfig:
    """Classification of each window; needs a corpus with labels. Only this loss leaves out windows without labels."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; the mean binary cross-entropy over many classes is small, so 1 is not large."""
    loss: Literal["bce", "cross-entropy"] = "bce"
    """Several labels at once, or exactly one."""
    norm: Literal["layer", "batch"] = "layer"
    """Normalisation inside the head; "batch" (SupMAE) depends on the rest of the batch and on how it is split."""
    temperature: Positive = 1.0
    """Logits are divided by it (SupMAE: 10)."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty: those of the corpus."""


class ClassificationLoss(Objective):
    """Classify the mean of the visible tokens, the CLS token left out.

        L = mean_b [ y_b known ] CE(y_b, g(mean_v z_bv) / temperature),   g: Linear - norm - ReLU - Linear

    z: encoder output at visible patches that are not padding; CE: binary cross-entropy averaged over classes, or
    cross-entropy with labels scaled to sum to one. One encoder pass serves this and every other objective.
    """

    needs_decoder = False

    def __init__(self, config: SuperviseConfig, embed_dim: int) -> None:
        super().__init__()
        if not config.classes:
            raise ConfigError(
                "objectives.supervise.classes is empty; train on a corpus with labels, from which it is taken"
            )
        self.config = config
        hidden = EXPANSION * embed_dim
        norm = nn.LayerNorm(hidden, eps=NORM_EPS) if config.norm == "layer" else nn.BatchNorm1d(hidden)
        self.head = nn.Sequential(nn.Linear(embed_dim, hidden), norm, nn.ReLU(), nn.Linear(hidden, len(config.classes)))
        initialise(self)

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return "labelled", the number of windows that have labels.

        Raises
        ------
        ConfigError
            When the batch holds no labels.
        """
        return {"labelled": _labels(batch)[1].sum()}

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the windows that have labels; 0, with a gradient of 0, when none has.

        Raises
        ------
        ConfigError
            As `totals`.
        """
        labels, labelled = _labels(batch)
        logits = self.logits(out, batch)
        values = clip_losses(logits, labels, self.config.loss == "bce")
        return masked_mean(values, labelled, totals["labelled"])

    def logits(self, out: MaskedPass, batch: Batch) -> Float[Tensor, "B L"]:
        """Return the class scores of each window."""
        weights = torch.gather(batch.valid, 1, out.mask.keep)[..., None].to(out.visible.dtype)
        mean = (out.visible * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits.float() / self.config.temperature


def _labels(batch: Batch) -> tuple[Float[Tensor, "B L"], Float[Tensor, " B"]]:
    """Return the labels of each window, and 1 for each window that has labels."""
    if batch.labels is None or batch.has_labels is None:
        raise ConfigError("objectives.supervise needs labels; give a corpus CSV with the columns path and label")
    return batch.labels, batch.has_labels.float()


register(
    "supervise",
    SuperviseConfig,
    lambda config, model, _: ClassificationLoss(config, model.encoder.embed_dim),
    labels=True,
)
