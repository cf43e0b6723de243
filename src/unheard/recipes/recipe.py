"""What a recipe is: a front end, a model, weighted objectives, and how to train them.

A recipe is data. The files beside this one each tell one paper's method and hold its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from unheard.audio.frontend import LogMelConfig
from unheard.audio.frontends import FrontendConfig
from unheard.config import Count, Momentum, Positive, Share, Weight
from unheard.model.sizes import ModelConfig
from unheard.objectives.clap import ClapConfig
from unheard.objectives.contrast import ContrastConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.prototypes import PrototypesConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.schedules import TeacherConfig
from unheard.objectives.supervise import SuperviseConfig


@dataclass(frozen=True)
class ObjectivesConfig:
    """One section for each objective; the loss is the sum of weight * objective."""

    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    """Pixels of hidden patches."""
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    """The teacher's latents of hidden patches."""
    prototypes: PrototypesConfig = field(default_factory=PrototypesConfig)
    """The prototypes the teacher sees in hidden patches."""
    clap: ClapConfig = field(default_factory=ClapConfig)
    """What a frozen teacher says of visible and hidden patches."""
    supervise: SuperviseConfig = field(default_factory=SuperviseConfig)
    """The labels of the corpus."""
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    """The captions of the corpus."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast, how exact."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of initial weights, crops and masks."""
    epochs: Positive | None = None
    """Passes over the corpus; null: use steps."""
    steps: Count | None = None
    """Optimiser steps; null: from epochs, or a budget from the size of the corpus when both are null."""
    batch_size: Count = 128
    """Crops of one optimiser step, over all processes."""
    accumulate: Count = 1
    """Parts a process splits its share of the batch into, for memory. The contrast with captions compares the windows of one part only."""
    learning_rate: Weight | None = None
    """Peak learning rate; null: base_learning_rate * batch_size / 256."""
    base_learning_rate: Weight = 3e-4
    """Peak learning rate at a batch of 256."""
    warmup: Share = 0.1
    """Share of the run with linear warm-up from 0; then half a cosine down to 0."""
    weight_decay: Weight = 0.05
    """AdamW weight decay."""
    decay: Literal["matrices", "all"] = "matrices"
    """What decays: matrices, CLS and mask tokens (MAE reference), or biases and gains as well (MATPAC reference)."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    """AdamW moments (MAE reference)."""
    adam_eps: Positive = 1e-8
    """AdamW epsilon, added to the root of the bias-corrected second moment (PyTorch default)."""
    clip_norm: Positive | None = None
    """Largest global gradient norm; null: no clipping."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on CUDA, float32 elsewhere."""
    compile: bool | None = None
    """torch.compile; null: on CUDA only."""
    devices: Count = 1
    """GPUs (or CPU processes) of this machine; under torchrun or SLURM theirs is used."""
    log_every: Count = 20
    """Steps between two rows of metrics.jsonl."""
    checkpoint_every: Count = 500
    """Steps between two checkpoints."""
    keep_checkpoints: Count = 2
    """How many of the latest checkpoints stay."""
    skip_bad_batches: Annotated[int, Field(ge=0)] = 0
    """Batches with a loss that is not finite whose update is skipped; one more ends the run. Above 0 every step waits for the device."""


@dataclass(frozen=True)
class DataConfig:
    """How windows are drawn from the corpus."""

    crops: Literal["length", "one"] = "length"
    """Windows of a clip in one epoch: as many as its length holds, or one (as the papers of MSM-MAE, M2D, MATPAC and MaskSpec count)."""
    balance: Literal["none", "domain"] = "none"
    """Give each domain of a manifest the same share of windows."""
    short: Literal["pad", "join"] = "pad"
    """What fills the window of a clip shorter than it: padding, or further short clips."""
    statistics: Literal["scalar", "band", "maskspec"] = "scalar"
    """Normalise by one mean and deviation of the corpus, by those of each mel band, or by those MaskSpec has of AudioSet."""
    smallest_std: Weight = 0.0
    """Deviations of the corpus below this count as this, for bands that hardly move, such as those a codec left empty."""
    store: Literal["spec", "wav"] = "spec"
    """Cut windows from packed spectrograms, or from the wave, which bands that vary and teachers that listen need."""


@dataclass(frozen=True)
class Recipe:
    """A whole method: everything needed to train it again."""

    name: str = "msm-mae"
    """The recipe's name."""
    paper: str = ""
    """Where it comes from."""
    numbers: str = ""
    """Where its numbers come from."""
    frontend: FrontendConfig = field(default_factory=LogMelConfig)
    """Waveform to spectrogram; its kind is log-mel, kaldi-fbank or maskspec."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoder, decoder, window and mask."""
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    """What the masked pass is asked for."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The EMA teacher, where an objective needs one."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Optimiser, schedule, precision."""
    data: DataConfig = field(default_factory=DataConfig)
    """Windows."""
