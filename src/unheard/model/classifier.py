"""A classifier on top of the encoder: tokens are pooled to one vector, which gives one score for each class.

    h = mean over patch tokens, the concatenated means of each band, or the CLS token
    logits = W norm(h) + b;   scores = softmax or sigmoid of the logits

Published fine-tuned models differ in pooling and norm:

- MaskSpec and AudioMAE: pool "mean", norm "layer".
- MaskSpec's CLS variant: pool "cls", norm "none", after the encoder's own final norm.
- MATPAC's AudioSet head: pool "mean", norm "batch". Its mean over frequency, then over time, is the mean over all
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.errors import ConfigError
from unheard.model.classification import probabilities
from unheard.model.transformer import NORM_EPS

HEAD_STD = 2e-5  # MaskSpec and AudioMAE reference: logits begin near zero


@dataclass(frozen=True)
class ClassifierConfig:
    """Names of the classes, and how tokens become scores."""

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Name of each class, in the order of the scores."""
    activation: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: one class a sound (scores sum to one). sigmoid: any number of classes (each score on its own)."""
    pool: Literal["mean", "bands", "cls"] = "mean"
    """Mean over the patch tokens without CLS; the concatenated means of each band of patches; or the CLS token
    alone.
    """
    norm: Literal["layer", "batch", "none"] = "layer"
    """LayerNorm, BatchNorm without gain and bias, or nothing between the pooled vector and the head."""
    thresholds: tuple[float | None, ...] = ()
    """Score from which on each class is detected, chosen on validation clips; null for a class without such clips,
    empty if there were none.
    """
    window: Annotated[float, Field(gt=0)] | None = None
    """Seconds of the longest part of a clip that was trained at once; null if that is not known."""
    channel: Literal["mix", "left", "right", "mid"] = "mix"
    """Channel of a file, or their mean, that is the input; see `unheard.audio.waveform.read`."""


class Classifier(nn.Module):
    """Pooling, norm and a linear head.

    Parameters
    ----------
    config : ClassifierConfig
    embed_dim : int
        Width D of the encoder.
    bands : int
        Rows of patches f; with pool "bands" the vector is f times as wide.

    Attributes
    ----------
    dropout : float
        Probability that a value of the normalised vector is set to 0 in training.
    """

    def __init__(self, config: ClassifierConfig, embed_dim: int, bands: int = 1) -> None:
        super().__init__()
        self.config, self.dropout = config, 0.0
        width = embed_dim * bands if config.pool == "bands" else embed_dim
        norms: dict[str, nn.Module] = {
            "layer": nn.LayerNorm(width, eps=NORM_EPS),
            "batch": nn.BatchNorm1d(width, affine=False),
            "none": nn.Identity(),
        }
        self.norm = norms[config.norm]
        self.head = nn.Linear(width, len(config.labels))
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def pool(self, tokens: Float[Tensor, "B K D"], cls: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "B W"]:
        """Return one vector for each sound, from the encoder's tokens and its CLS output.

        Raises
        ------
        ConfigError
            When the pool is "cls" and the encoder has no CLS token.
        """
        if self.config.pool == "mean":
            return tokens.mean(dim=1)
        if self.config.pool == "bands":
            return tokens.flatten(1)
        if cls is None:
            raise ConfigError(
                'a classifier with pool "cls" needs an encoder with a CLS token; set model.cls_token=true, or pool'
                ' "mean"'
            )
        return cls

    def forward(self, pooled: Float[Tensor, "B W"]) -> Float[Tensor, "B C"]:
        """Return the logits of pooled vectors."""
        logits: Tensor = self.head(F.dropout(self.norm(pooled), self.dropout, self.training))
        return logits

    def scores(self, logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Return logits as scores between 0 and 1."""
        return probabilities(logits, self.config.activation == "sigmoid")
