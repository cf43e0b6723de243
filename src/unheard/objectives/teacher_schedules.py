"""Schedules: the EMA teacher's momentum and the temperatures, as functions of the fraction of the run that is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from unheard.config import Fraction
from unheard.model.targets import TargetConfig

MAX_INITIAL_WEIGHT = 1.44e-4
"""exp(-294 816 * 3e-5): weight of the teacher's initial weights at the end of the published schedule of M2D and
MATPAC.
"""


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a run: optimiser steps done, and their total."""

    step: int
    total: int

    @property
    def progress(self) -> float:
        """Return the fraction of the run that is done, in [0, 1]."""
        return self.step / self.total

    def progress_tensor(self) -> Float[Tensor, ""]:
        """Return `progress` as a tensor in double precision."""
        return torch.tensor(self.progress, dtype=torch.float64)


@dataclass(frozen=True)
class TeacherConfig(TargetConfig):
    """The EMA teacher of latent objectives: teacher = momentum * teacher + (1 - momentum) * student."""

    momentum_start: Fraction = 0.99995
    """Momentum at the first step (M2D reference)."""
    momentum_end: Fraction = 0.99999
    """Momentum at the last step; linear in between (M2D reference)."""
    anneal: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the run after which momentum_end is reached (EAT and BAT: 0.25, EAT large: 0.375)."""
    max_initial_weight: Annotated[float, Field(gt=0, le=1)] = MAX_INITIAL_WEIGHT
    """Largest weight of the teacher's initial weights at the end of a run. A short run lowers the momentum to reach it.
    1: never.
    """
    init_from_student: bool = False
    """Start as a copy of the student; otherwise with weights of its own (published)."""
    update_at: Literal["before_step", "after_step"] = "after_step"
    """Update from the student before the optimiser step (MATPAC) or after it (M2D)."""

    def should_update(self, hook: Literal["before_step", "after_step"], when: TrainingProgress) -> bool:
        """Return whether teachers are updated in this hook; the update before the first step is left out (MATPAC
        reference).
        """
        return hook == self.update_at and when.step > 0


def momentum(start: float, end: float, max_initial_weight: float, when: TrainingProgress, anneal: float = 1.0) -> float:
    """Return an EMA's momentum: linear from ``start`` to ``end``, lowered in a short run.

    After N steps the initial weights have a weight of about exp(-N d), d the mean of 1 - momentum. If that is more than
    ``max_initial_weight``, every 1 - momentum is multiplied by the same factor, so that ``max_initial_weight`` remains
    (our choice). A run of the published length, 294 816 steps, has the published momentum.

    Parameters
    ----------
    start, end : float
        Momentum at the first and the last step of a long run.
    max_initial_weight : float
        Largest remaining weight of the initial weights, above 0; 1 keeps ``start`` and ``end`` for any length.
    when : TrainingProgress
    anneal : float
        Fraction of the run after which the momentum is ``end``, above 0.
    """
    forgotten = when.total * (anneal * (2 - start - end) / 2 + (1 - anneal) * (1 - end))
    faster = max(1.0, -math.log(max_initial_weight) / forgotten) if forgotten > 0 else 1.0
    distance = (1 - start) + (start - end) * min(1.0, when.progress / anneal)
    return max(0.0, 1 - faster * distance)


def linear_warmup(progress: Float[Tensor, ""], start: float, end: float, share: float) -> Float[Tensor, ""]:
    """Return a linear schedule from ``start`` to ``end`` over the first ``share`` of the run, then constant."""
    return start + (end - start) * (progress / max(share, 1e-12)).clamp(max=1)


def exponential_decay(progress: Float[Tensor, ""], start: float, end: float, share: float) -> Float[Tensor, ""]:
    """Return an exponential decay from ``start`` through ``end``, which it reaches at ``share`` of the run."""
    return start * (end / start) ** (progress / max(share, 1e-12))
