"""The distance of a student's features to those of one frozen teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.encoder import take
from unheard.model.masked_model import MaskedPass
from unheard.model.transformer import NORM_EPS
from unheard.objectives.base import Batch, Totals, masked_mean, valid_at
from unheard.objectives.distill_config import DistillConfig, DistillTeacher

TARGET_EPS = 1e-6  # our choice, as for the latents of M2D
COSINE_EPS = 1e-8  # of F.cosine_similarity
MOMENTUM = 0.99  # of the running target statistics; our choice: a hundred steps


class TeacherLoss(nn.Module):
    """Distance of the student's features of each patch to those of one teacher.

        L = w_v mean_v mean_l D(h_l(z_v,l), t_v) + w_m mean_m D(h(W y_m), t_m) + w_p D(h(mean_v z_v), mean t)

    D(y, t) = 1 - cos(y, t); z_l: output of layer l of the encoder (the last one), y: decoder output, W: linear to the
    encoder's width, h: LayerNorm and linear layer, t: the teacher's map aligned to the student's patches and
    standardised, without gradient; v: visible, m: hidden patches.

    Parameters
    ----------
    config : DistillConfig
    teacher : DistillTeacher
        One of ``config.teachers``.
    where : str
        Name of its section, for messages.
    embed_dim, decoder_dim : int
        Widths of encoder and decoder.

    Raises
    ------
    ConfigError
        When the channels of the teacher are not known, no term is active, or layers contradict ``visible_features``.
    """

    running: Tensor
    initialised: Tensor
    pending_stats: Tensor

    def __init__(
        self, config: DistillConfig, teacher: DistillTeacher, where: str, embed_dim: int, decoder_dim: int
    ) -> None:
        super().__init__()
        if teacher.dim is None:
            raise ConfigError(f"{where}.dim is null; set {where}.name to a teacher, from which it is taken")
        if teacher.visible + teacher.hidden + teacher.pooled == 0:
            raise ConfigError(f"{where} has no active term; set {where}.visible, .hidden or .pooled above 0")
        if teacher.layers and config.visible_features == "decoder":
            raise ConfigError(
                f"{where}.layers are layers of the encoder; set objectives.distill.visible_features=encoder, or"
                f" {where}.layers=[]"
            )
        self.teacher, self.balance = teacher, config.balance
        from_decoder = config.visible_features == "decoder"
        self.needs_decoder = teacher.hidden > 0 or (teacher.visible > 0 and from_decoder)
        self.visible_from_decoder = teacher.visible > 0 and from_decoder
        apart = config.heads == "separate" and teacher.hidden > 0
        alone = apart and teacher.visible + teacher.pooled == 0
        self.heads = nn.ModuleList(
            _head(embed_dim, teacher.dim) for _ in range(0 if alone else max(1, len(teacher.layers)))
        )
        self.hidden_head = _head(embed_dim, teacher.dim) if apart else None
        self.decoder_to_encoder_proj = nn.Linear(decoder_dim, embed_dim) if self.needs_decoder else None
        self.register_buffer("running", torch.zeros(2, teacher.dim))  # mean and mean square of the targets
        self.register_buffer("initialised", torch.zeros(()))
        self.register_buffer("pending_stats", torch.zeros(2, teacher.dim), persistent=False)

    @property
    def uses_running(self) -> bool:
        """Whether targets are standardised by running statistics."""
        return self.teacher.standardise in ("auto", "running")

    def forward(
        self, out: MaskedPass, batch: Batch, target: Float[Tensor, "B N C"], totals: Totals, sums: Tensor | None
    ) -> Float[Tensor, ""]:
        """Return the loss over the patches that are not padding; ``sums`` are those of the targets of the whole
        batch.
        """
        teacher, keep, hide = self.teacher, out.mask.keep, out.mask.hide
        target = self._standardised(target, totals, sums)
        layers = [out.layers[number] for number in teacher.layers] or [out.visible]
        values: list[Tensor] = []
        index: list[Tensor] = []
        counts: list[Tensor] = []
        if teacher.visible > 0:
            features = layers
            if self.visible_from_decoder and self.decoder_to_encoder_proj is not None:
                features = [self.decoder_to_encoder_proj(take(out.decoded, keep))]
            values.append(teacher.visible * self._mean_distance(features, take(target, keep)))
            index.append(keep)
            counts.append(totals["visible"])
        if teacher.hidden > 0 and self.decoder_to_encoder_proj is not None:
            hidden, head = self.decoder_to_encoder_proj(take(out.decoded, hide)), self.hidden_head or self.heads[-1]
            values.append(teacher.hidden * self._distance(head, hidden, take(target, hide)))
            index.append(hide)
            counts.append(totals["hidden"])
        if values and self.balance == "tokens":
            values, index, counts = [torch.cat(values, dim=1)], [torch.cat(index, dim=1)], [torch.stack(counts).sum()]
        terms = [
            masked_mean(value, valid_at(batch, at), count)
            for value, at, count in zip(values, index, counts, strict=True)
        ]
        if teacher.pooled > 0:
            whole = self._mean_distance([_pool(each, batch, keep) for each in layers], _pool(target, batch))
            terms.append(teacher.pooled * whole.sum() / totals["windows"])
        return torch.stack(terms).sum()

    @torch.no_grad()
    def update_running(self) -> None:
        """Add the targets of this step to the running statistics; the first targets initialise them."""
        if self.uses_running:
            self.running.lerp_(self.pending_stats, torch.where(self.initialised > 0, 1 - MOMENTUM, 1.0))
            self.initialised.fill_(1.0)

    def _standardised(
        self, target: Float[Tensor, "B N C"], totals: Totals, sums: Tensor | None
    ) -> Float[Tensor, "B N C"]:
        """Return the targets standardised as configured; while training, keep the statistics of the whole batch.

        Stored targets are standardised by their stored statistics when they are read.
        """
        if self.teacher.standardise == "token":
            return F.layer_norm(target, target.shape[-1:], eps=TARGET_EPS)
        if sums is None:
            return target
        now = sums / totals["patches"].clamp(min=1)
        if self.training:
            self.pending_stats.copy_(now)
        mean, square = torch.where(self.initialised > 0, self.running, now)
        standard: Tensor = (target - mean) / (square - mean.square()).clamp(min=TARGET_EPS).sqrt()
        return standard

    def _mean_distance(
        self, layers: list[Float[Tensor, "B M D"]], target: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B M"]:
        """Return the mean over layers of the distance of each token."""
        found = [self._distance(head, tokens, target) for head, tokens in zip(self.heads, layers, strict=True)]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def _distance(
        self, head: nn.Module, tokens: Float[Tensor, "B M D"], target: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B M"]:
        predicted: Tensor = head(tokens).float()
        if self.teacher.distance == "cosine":
            return 1 - _cosine(predicted, target)
        if self.teacher.distance == "mse":
            return (predicted - target).square().mean(dim=-1)
        return F.smooth_l1_loss(predicted, target, reduction="none").mean(dim=-1)


def _cosine(predicted: Float[Tensor, "B M C"], target: Float[Tensor, "B M C"]) -> Float[Tensor, "B M"]:
    """Return `F.cosine_similarity` with a target that gets no gradient, in fewer passes over memory."""
    unit = target / target.norm(dim=-1, keepdim=True).clamp(min=COSINE_EPS)
    cosine: Tensor = (predicted * unit).sum(dim=-1) / predicted.norm(dim=-1).clamp(min=COSINE_EPS)
    return cosine


def _head(embed_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(embed_dim, eps=NORM_EPS), nn.Linear(embed_dim, dim))


def _pool(
    tokens: Float[Tensor, "B K D"], batch: Batch, index: Int[Tensor, "B K"] | None = None
) -> Float[Tensor, "B 1 D"]:
    """Return the mean over the tokens that are not padding."""
    valid = batch.valid if index is None else torch.gather(batch.valid, 1, index)
    weights = valid[..., None].to(tokens.dtype)
    return (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
