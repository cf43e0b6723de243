"""Settings of feature distillation: the teachers, and how the student's features are compared with theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unheard.config import Count, Weight


@dataclass(frozen=True)
class DistillTeacher:
    """One frozen teacher, and the distance of the student's features to its feature map."""

    name: str = ""
    """A CLAP folder, hf:DIR, hear:MODULE, any model of ours, or a folder that unheard data targets wrote. All but the
    last compute targets in training and need data.input=wav.
    """
    weight: Weight = 1.0
    """Weight of this teacher in the sum over the teachers."""
    stage: Literal["final", "middle"] = "final"
    """Which feature map of CLAP: before pooling, or four times finer from an earlier stage."""
    projected: bool = False
    """Project each position of CLAP's final map into the space of audio and text (as CAE v2 does with CLIP)."""
    layers: tuple[Count, ...] = ()
    """Blocks of the student's encoder, counted from 1, that give the features of visible patches: one head each, and
    the mean of their distances. Empty: the output of the encoder.
    """
    visible: Weight = 1.0
    """Weight of the mean over visible patches."""
    hidden: Weight = 1.0
    """Weight of the mean over hidden patches."""
    pooled: Weight = 0.0
    """Weight of one more term: the mean over visible patches against the mean of the teacher's map."""
    distance: Literal["cosine", "smooth-l1", "mse"] = "cosine"
    """1 - cos, or a distance of the standardised values."""
    standardise: Literal["auto", "stored", "running", "token", "none"] = "auto"
    """Targets by mean and deviation of each channel over the stored corpus ("stored") or over the past batches
    ("running"), by each token's own, or as they are; auto: "stored" for stored targets, else "running".
    """
    pca: Count | None = None
    """Channels kept by the projection of stored targets; null: taken from them when a run starts, if there is one."""
    dim: Count | None = None
    """Channels of the targets; null: taken from the teacher when a run starts."""


@dataclass(frozen=True)
class DistillConfig:
    """Sum of distances to the feature maps of frozen teachers."""

    weight: Weight = 0.0
    """Weight in the sum of objectives; at 0 neither it nor a teacher is built."""
    teachers: tuple[DistillTeacher, ...] = (DistillTeacher(),)
    """The teachers, as a JSON list such as [{"name": "DIR", "weight": 0.5}]; a field of the first one is
    objectives.distill.teachers.0.name.
    """
    visible_features: Literal["encoder", "decoder"] = "encoder"
    """Which output gives the features of visible patches; "encoder": their gradient does not pass the decoder (CAE
    v2).
    """
    heads: Literal["shared", "separate"] = "shared"
    """For each teacher, one norm and linear layer for visible and hidden patches (CAE v2), or one each."""
    balance: Literal["separate", "tokens"] = "separate"
    """Mean over visible plus mean over hidden patches, or one mean over all (CAE v2)."""
