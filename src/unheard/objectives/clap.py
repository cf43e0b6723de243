"""Feature distillation from a frozen teacher, on visible and on hidden patches: the objective of MAM-CLAP.

Xin, Peng, Lu: "Masked Audio Modeling with CLAP and Multi-Objective Learning", Interspeech 2023 (arXiv 2401.15953). The
paper does not specify the CLAP model, the alignment of maps, the head, the distance and the weights. Each is a field
here with our choice as its default, so nothing trained with it reproduces the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.config import Count, Weight
from unheard.errors import ConfigError
from unheard.model.encoder import take
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.transformer import NORM_EPS, initialise
from unheard.objectives.base import Batch, Objective, Totals, masked_mean, valid_at
from unheard.objectives.registry import register
from unheard.objectives.schedules import TrainingProgress

TARGET_EPS = 1e-6  # our choice, as for the latents of M2D
MOMENTUM = 0.99  # of the running target statistics; our choice: a hundred steps


@dataclass(frozen=True)
class ClapConfig:
    """Distance to a frozen teacher's feature map; needs the waveform of each window."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; at 0 neither it nor the teacher is built."""
    teacher: str = ""
    """Folder of a Hugging Face CLAP checkpoint, hf:DIR, hear:MODULE, or any model of ours (feature distillation)."""
    stage: Literal["final", "middle"] = "final"
    """Which feature map of CLAP: before pooling, or four times finer from an earlier stage."""
    projected: bool = False
    """Project each position of CLAP's final map into the space of audio and text (as CAE v2 does with CLIP)."""
    visible: Weight = 1.0
    """Weight of the mean over visible patches."""
    hidden: Weight = 1.0
    """Weight of the mean over hidden patches."""
    pooled: Weight = 0.0
    """Weight of one more term: the mean over visible patches against the mean of the teacher's map."""
    visible_features: Literal["encoder", "decoder"] = "encoder"
    """Which output gives the features of visible patches; "encoder": their gradient does not pass the decoder (CAE
    v2).
    """
    heads: Literal["shared", "separate"] = "shared"
    """One norm and linear layer for visible and hidden patches (CAE v2), or one each."""
    distance: Literal["cosine", "smooth-l1", "mse"] = "cosine"
    """1 - cos, or a distance of the standardised values."""
    balance: Literal["separate", "tokens"] = "separate"
    """Mean over visible plus mean over hidden patches, or one mean over all (CAE v2)."""
    standardise: Literal["running", "token", "none"] = "running"
    """Targets by running mean and deviation of each channel, by each token's own, or as they are."""
    dim: Count | None = None
    """Channels of the teacher's map; null: taken from the teacher when a run starts."""
    cache: bool = True
    """Store the maps on disk if every clip fits in one window."""


class DistillObjective(Objective):
    """Minimise the distance between the student's and the teacher's features of each patch.

        L = w_v mean_v D(h(z_v), t_v) + w_m mean_m D(h(W y_m), t_m) + w_p D(h(mean_v z_v), mean t) D(y, t) = 1 - cos(y,
        t)

    z: encoder output, y: decoder output, W: linear to the encoder's width, h: LayerNorm and linear layer, t: the
    teacher's map aligned to the student's patches and standardised, without gradient; v: visible, m: hidden patches.
    """

    running: Tensor
    initialised: Tensor
    pending_stats: Tensor

    def __init__(self, config: ClapConfig, embed_dim: int, decoder_dim: int) -> None:
        super().__init__()
        if config.dim is None:
            raise ConfigError("objectives.clap.dim is null; set objectives.clap.teacher, from which it is taken")
        if config.visible + config.hidden + config.pooled == 0:
            raise ConfigError(
                "objectives.clap has no active term; set objectives.clap.visible, .hidden or .pooled above 0"
            )
        self.config = config
        self.needs_decoder = config.hidden > 0 or (config.visible > 0 and config.visible_features == "decoder")
        apart = config.heads == "separate" and config.hidden > 0
        alone = apart and config.visible + config.pooled == 0
        self.head = None if alone else _head(embed_dim, config.dim)
        self.hidden_head = _head(embed_dim, config.dim) if apart else None
        self.decoder_to_encoder_proj = nn.Linear(decoder_dim, embed_dim) if self.needs_decoder else None
        initialise(self)
        self.register_buffer("running", torch.zeros(2, config.dim))  # mean and mean square of the targets
        self.register_buffer("initialised", torch.zeros(()))
        self.register_buffer("pending_stats", torch.zeros(2, config.dim), persistent=False)

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return the numbers of windows and of patches that are not padding, and the sums of targets and of their
        squares.

        Raises
        ------
        ConfigError
            When the batch holds no targets.
        """
        target = _targets(batch)
        counts = {"visible": valid_at(batch, mask.keep).sum(), "hidden": valid_at(batch, mask.hide).sum()}
        weights = batch.valid[..., None].to(target.dtype)
        sums = torch.stack([(target * weights).sum((0, 1)), (target.square() * weights).sum((0, 1))])
        return {**counts, "windows": weights.new_tensor(target.shape[0]), "patches": weights.sum(), "targets": sums}

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the patches that are not padding.

        Raises
        ------
        ConfigError
            As `totals`.
        """
        config, keep, hide = self.config, out.mask.keep, out.mask.hide
        target = self._standardised(_targets(batch), totals)
        values: list[Tensor] = []
        index: list[Tensor] = []
        counts: list[Tensor] = []
        if config.visible > 0:
            visible = (
                out.visible
                if config.visible_features == "encoder" or self.decoder_to_encoder_proj is None
                else self.decoder_to_encoder_proj(take(out.decoded, keep))
            )
            values.append(config.visible * self._distance(self.head, visible, take(target, keep)))
            index.append(keep)
            counts.append(totals["visible"])
        if config.hidden > 0 and self.decoder_to_encoder_proj is not None:
            hidden = self.decoder_to_encoder_proj(take(out.decoded, hide))
            values.append(config.hidden * self._distance(self.hidden_head or self.head, hidden, take(target, hide)))
            index.append(hide)
            counts.append(totals["hidden"])
        if values and config.balance == "tokens":
            values, index, counts = [torch.cat(values, dim=1)], [torch.cat(index, dim=1)], [torch.stack(counts).sum()]
        terms = [
            masked_mean(value, valid_at(batch, at), count)
            for value, at, count in zip(values, index, counts, strict=True)
        ]
        if config.pooled > 0:
            whole = self._distance(self.head, _pool(out.visible, batch, keep), _pool(target, batch))
            terms.append(config.pooled * whole.sum() / totals["windows"])
        return torch.stack(terms).sum()

    @torch.no_grad()
    def after_step(self, when: TrainingProgress) -> None:
        """Add the targets of this step to the running statistics; the first targets initialise them."""
        self.running.lerp_(self.pending_stats, torch.where(self.initialised > 0, 1 - MOMENTUM, 1.0))
        self.initialised.fill_(1.0)

    def _standardised(self, target: Float[Tensor, "B N C"], totals: Totals) -> Float[Tensor, "B N C"]:
        """Return the targets standardised as configured; while training, keep the statistics of the whole batch."""
        if self.config.standardise == "none":
            return target
        if self.config.standardise == "token":
            return F.layer_norm(target, target.shape[-1:], eps=TARGET_EPS)
        now = totals["targets"] / totals["patches"].clamp(min=1)
        if self.training:
            self.pending_stats.copy_(now)
        mean, square = torch.where(self.initialised > 0, self.running, now)
        standard: Tensor = (target - mean) / (square - mean.square()).clamp(min=TARGET_EPS).sqrt()
        return standard

    def _distance(
        self, head: nn.Module | None, tokens: Float[Tensor, "B M D"], target: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B M"]:
        predicted: Tensor = head(tokens).float() if head is not None else tokens.float()
        if self.config.distance == "cosine":
            return 1 - F.cosine_similarity(predicted, target, dim=-1)
        if self.config.distance == "mse":
            return (predicted - target).square().mean(dim=-1)
        return torch.where(
            (predicted - target).abs() < 1, (predicted - target).square() / 2, (predicted - target).abs() - 0.5
        ).mean(dim=-1)


def _targets(batch: Batch) -> Float[Tensor, "B N C"]:
    if batch.targets is None:
        raise ConfigError("feature distillation needs a teacher's targets; set objectives.clap.teacher to a folder")
    return batch.targets


def _head(embed_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(embed_dim, eps=NORM_EPS), nn.Linear(embed_dim, dim))


def _pool(
    tokens: Float[Tensor, "B K D"], batch: Batch, index: Int[Tensor, "B K"] | None = None
) -> Float[Tensor, "B 1 D"]:
    """Return the mean over the tokens that are not padding."""
    valid = batch.valid if index is None else torch.gather(batch.valid, 1, index)
    weights = valid[..., None].to(tokens.dtype)
    return (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)


register(
    "clap",
    ClapConfig,
    lambda config, model, _: DistillObjective(config, model.encoder.embed_dim, model.decoder.embed_dim),
)
