"""Classify hidden patches by prototypes: the classification objective of MATPAC and MATPAC++, after DINO."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unheard.config import Count, Fraction, Momentum, Positive, Weight
from unheard.errors import ConfigError
from unheard.model.ema import move_towards
from unheard.model.masked_model import MaskedPass
from unheard.model.transformer import initialise
from unheard.objectives.base import Batch, Objective, Totals, hidden_weights, masked_mean
from unheard.objectives.diagnostics import perplexity, shares
from unheard.objectives.registry import register
from unheard.objectives.teacher_schedules import TeacherConfig, TrainingProgress, linear_warmup, momentum

TEACHER_STD = 0.02  # the teacher head's MLP starts as a normal of this deviation, truncated at 2: MATPAC reference


@dataclass(frozen=True)
class PrototypesConfig:
    """Classification of hidden patches by prototypes; needs the EMA teacher."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; at 0 it is not built."""
    prototypes: Count | None = None
    """Classes (K); null: 8/3 of the encoder's width, which is the published 2048 at base."""
    hidden_dim: Count | None = None
    """Width of the head's MLP; null: 8/3 of the encoder's width, 2048 at base."""
    bottleneck_dim: Count | None = None
    """Width at which tokens and prototypes are compared; null: a third of the encoder's width, 256 at base."""
    student_temp: Positive = 0.1
    """Temperature of the student's distribution (MATPAC configuration)."""
    teacher_temp_start: Positive = 0.04
    """Temperature of the teacher's distribution at the first step (MATPAC configuration)."""
    teacher_temp: Positive = 0.07
    """Temperature of the teacher's distribution after its warm-up (MATPAC configuration)."""
    teacher_temp_warmup: Fraction = 9_827 / 294_816
    """Fraction of the run over which it rises linearly (10 of 300 epochs in the MATPAC configuration)."""
    center: Literal["probs", "logits"] = "probs"
    """The centre is a running mean of the teacher's centred probabilities (MATPAC reference), or of its logits
    (DINO).
    """
    center_momentum: Momentum = 0.9
    """Momentum of the centre (MATPAC configuration)."""
    momentum_start: Fraction = 0.998
    """Momentum of the teacher head at the first step (MATPAC configuration)."""
    momentum_end: Fraction = 1.0
    """Momentum of the teacher head at the last step; linear in between (MATPAC configuration)."""


class PrototypeHead(nn.Module):
    """Map latents to logits: a three-layer MLP to a bottleneck, then cosines with each prototype times its gain.

    Gain and direction are the two halves of a weight-normalised layer without bias; the gain starts at 1 and is
    trained.

    Parameters
    ----------
    embed_dim, hidden_dim, bottleneck_dim, prototypes : int
        Widths of the layers.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, bottleneck_dim: int, prototypes: int) -> None:
        super().__init__()
        first, second = nn.Linear(embed_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.mlp = nn.Sequential(first, nn.GELU(), second, nn.GELU(), nn.Linear(hidden_dim, bottleneck_dim))
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        bound = bottleneck_dim**-0.5  # what PyTorch's linear layer starts from
        self.weight_v = nn.Parameter(torch.empty(prototypes, bottleneck_dim).uniform_(-bound, bound))
        initialise(self.mlp)

    def forward(self, latents: Float[Tensor, "B M D"]) -> Float[Tensor, "B M K"]:
        """Return logits, float32 also under autocast: differences of cosines are divided by small temperatures."""
        bottleneck = self.mlp(latents)
        with torch.autocast(latents.device.type, enabled=False):
            return F.linear(F.normalize(bottleneck.float(), dim=-1), self.weight_g * F.normalize(self.weight_v, dim=-1))


class Prototypes(Objective):
    """Minimise the cross-entropy to the teacher's prototype assignments of hidden patches.

        q_m = softmax((teacher(t_m) - c) / tau_t),   p_m = softmax(student(p_m) / tau_s)
        L = mean_m  - sum_k q_mk log p_mk
        c <- 0.9 c + 0.1 mean_m q_m   after each step, over all processes

    t_m: the teacher's latents of hidden patch m; p_m: the student's prediction of them, the best one of several
    hypotheses. The teacher head is an EMA of the student head and never gets a gradient. In the reference the mean is
    added to the centre at the beginning of the next step, which gives the same numbers.

    Parameters
    ----------
    config : PrototypesConfig
    embed_dim : int
        Width of the latents.
    teacher : TeacherConfig
        When the teacher head is updated, its smallest rate, and whether it starts as a copy. If not, it shares only its
        prototypes with the student head at the start (MATPAC reference).
    """

    saved = False
    center: Tensor
    pending: Tensor
    pending_tokens: Tensor

    def __init__(self, config: PrototypesConfig, embed_dim: int, teacher: TeacherConfig) -> None:
        super().__init__()
        self.config, self.moving = config, teacher
        hidden, bottleneck, kinds = head_sizes(config, embed_dim)
        self.student = PrototypeHead(embed_dim, hidden, bottleneck, kinds)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        if not teacher.init_from_student:
            for layer in self.teacher.mlp:
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=TEACHER_STD, a=-2 * TEACHER_STD, b=2 * TEACHER_STD)
        self.register_buffer("center", torch.zeros(kinds))
        self.register_buffer("pending", torch.zeros(kinds))
        self.register_buffer("pending_tokens", torch.zeros(()))

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the cross-entropy over the hidden patches that are not padding.

        Raises
        ------
        ConfigError
            When the model was built without predictor and teacher.
        """
        if out.target is None:
            raise ConfigError(
                "prototypes need a model with a teacher; build it with objectives.prototypes.weight above 0"
            )
        weights = hidden_weights(batch, out.mask)
        student = self.student(out.best_prediction()) / self.config.student_temp
        with torch.no_grad():
            logits = self.teacher(out.target)
            probabilities = self.assign(logits, out.progress)
            out.sums |= self._sums(logits, probabilities, weights)
            agree = (student.argmax(dim=-1) == probabilities.argmax(dim=-1)).float()
            out.diagnostics["agreement"] = masked_mean(agree, weights, weights.sum())
        return masked_mean(-(probabilities * student.log_softmax(dim=-1)).sum(dim=-1), weights, totals["hidden"])

    def assign(self, logits: Float[Tensor, "B M K"], progress: Float[Tensor, ""]) -> Float[Tensor, "B M K"]:
        """Return the teacher's distribution q."""
        return ((logits - self.center) / self.temperature(progress)).softmax(dim=-1)

    def temperature(self, progress: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return tau_t at this fraction of the run."""
        config = self.config
        return linear_warmup(progress, config.teacher_temp_start, config.teacher_temp, config.teacher_temp_warmup)

    def _sums(
        self, logits: Float[Tensor, "B M K"], probabilities: Float[Tensor, "B M K"], weights: Float[Tensor, "B M"]
    ) -> Totals:
        """Return the sums of the teacher's outputs over the hidden patches, for `after_pass`."""
        found = {
            "tokens": weights.sum(),
            "probabilities": torch.einsum("bm,bmk->k", weights, probabilities),
            "assigned": shares(probabilities.argmax(dim=-1), weights, self.center.shape[0]),
            "entropy": (torch.special.entr(probabilities).sum(dim=-1) * weights).sum(),
        }
        if self.config.center == "logits":
            found["logits"] = torch.einsum("bm,bmk->k", weights, logits)
        return found

    @torch.no_grad()
    def after_pass(self, sums: Totals) -> dict[str, Tensor]:
        """Add a pass to the statistics of the centre, while training. Return how many prototypes the teacher uses.

        "effective_prototypes", exp(H(mean of q) - mean of H(q)), is the exponential of the mutual information between
        patch and prototype. It is 1 when the teacher gives the same distribution for every patch.
        """
        tokens, total = sums["tokens"], sums["probabilities"]
        if self.training:
            self.pending += sums.get("logits", total)
            self.pending_tokens += tokens
        used = perplexity(total / tokens.clamp(min=1))
        entropy = sums["entropy"] / tokens.clamp(min=1)
        return {
            "prototype_perplexity": used,
            "effective_prototypes": used / entropy.exp(),
            "active_prototypes": (sums["assigned"] > 0).sum().float(),
        }

    def before_step(self, when: TrainingProgress) -> None:
        """Update the teacher head, if it is updated before the optimiser step (MATPAC)."""
        if self.moving.should_update("before_step", when):
            move_towards(self.teacher, self.student, self.momentum(when))

    def after_step(self, when: TrainingProgress) -> None:
        """Update the teacher head, if it is updated after the optimiser step (M2D), and the centre."""
        if self.moving.should_update("after_step", when):
            move_towards(self.teacher, self.student, self.momentum(when))
        mean = self.pending / self.pending_tokens.clamp(min=1)
        moved = torch.lerp(self.center, mean, 1 - self.config.center_momentum)
        self.center.copy_(torch.where(self.pending_tokens > 0, moved, self.center))
        self.pending.zero_()
        self.pending_tokens.zero_()

    def momentum(self, when: TrainingProgress) -> float:
        """Return the teacher head's momentum."""
        return momentum(self.config.momentum_start, self.config.momentum_end, self.moving.max_initial_weight, when)

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        """Return the momentum of the teacher head and the temperature of its distribution."""
        return {"head_momentum": self.momentum(when), "teacher_temp": float(self.temperature(when.progress_tensor()))}


def head_sizes(config: PrototypesConfig, embed_dim: int) -> tuple[int, int, int]:
    """Return hidden width, bottleneck width and number of prototypes; every null becomes its ratio of the encoder's
    width.
    """
    wide, narrow = max(8, 8 * embed_dim // 3), max(8, embed_dim // 3)
    return config.hidden_dim or wide, config.bottleneck_dim or narrow, config.prototypes or wide


register(
    "prototypes",
    PrototypesConfig,
    lambda config, model, teacher: Prototypes(config, model.encoder.embed_dim, teacher),
    teacher=True,
)
