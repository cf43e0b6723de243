"""Configuration of a fine-tuning recipe: how a trained encoder learns the classes of a labelled table.

    h = encoder(patches kept by patchout);  logits = W norm(mean of h) + b;  loss = CE or BCE

A recipe is independent of the encoder. The named recipes are in `unheard.finetuning.named_recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from unheard.audio.waveform import Channel
from unheard.config import Count, Fraction, Momentum, Positive, Weight
from unheard.recipes.recipe import TrainingConfig

UnitInterval = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
Decibels = Annotated[int, Field(ge=-60, le=60)]
Level = Annotated[float, Field(ge=-60, le=60)]
Speed = Annotated[float, Field(ge=0.25, le=4)]


@dataclass(frozen=True)
class TaskConfig:
    """Task: loss, pooling, clips per epoch and early stopping."""

    loss: Literal["auto", "cross-entropy", "bce"] = "auto"
    """Cross-entropy (one class per clip) or binary cross-entropy (any number); auto: chosen from the table. Binary
    cross-entropy is averaged over all classes; classes that are not annotated contribute 0.
    """
    asymmetric: bool = False
    """Weight the negatives of binary cross-entropy by their scores (BAT)."""
    label_smoothing: UnitInterval = 0.0
    """Fraction of the target of cross-entropy that is spread over all classes (EAT on ESC-50: 0.1)."""
    pool: Literal["mean", "bands", "cls"] = "mean"
    """mean: mean of the patch tokens (published). bands: concatenated means of each band. Both use a new norm. cls: the
    CLS token with the norm of the encoder (variant of MaskSpec), or with a new norm if the encoder has none (EAT, BAT).
    """
    norm: Literal["layer", "batch"] = "layer"
    """Norm of pooled patch tokens. layer: over the values of a clip (published). batch: over the batch, as in the
    linear probes of MAE.
    """
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = ("mix",)
    """Channels of the files; one model is trained for each, and their logits are averaged."""
    balance: Literal["none", "class"] = "none"
    """class: sample clips of rare classes more often. In an epoch of fewer clips than the table has, no clip occurs
    twice (MaskSpec); with as many, clips repeat (our choice). none: each clip once.
    """
    class_weight_offset: Weight = 100.0
    """Weight of a class with n clips is 1000 / (n + offset); a clip has the sum over its classes (MaskSpec: 100,
    AudioMAE: 0.01).
    """
    epoch_clips: Count | None = None
    """Number of clips per epoch; null: all clips."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    """Fraction of the training clips used for model selection if the table has no split valid; groups stay together. 0:
    train on all clips and keep the last weights.
    """
    patience: Count | None = None
    """Stop after this many epochs without a better validation score; null: never."""


@dataclass(frozen=True)
class FinetuneOptimConfig:
    """Optimisation of the weights: layer decay, schedule, drop path and weight averaging."""

    layer_decay: Scale = 0.75
    """Ratio of the learning rates of a block and the next deeper one."""
    decay_embedding: bool = True
    """Layer decay of patch embedding, CLS token and positions, as layer 0 (MAE); false: they have the full rate (EAT).
    """
    head_dropout: UnitInterval = 0.0
    """Dropout between norm and head of the classifier (BAT: 0.2)."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """cosine: linear warm-up, then half a cosine (MAE). linear (PaSST): warm-up exp(-5 (1 - t)^2), the full rate, then
    a linear decay.
    """
    decay_range: tuple[Fraction, Fraction] = (0.4, 0.8)
    """Start and end of the linear decay, as fractions of the run; (1, 1): no decay."""
    min_learning_rate: Weight = 1e-6
    """Learning rate at the end of the schedule."""
    drop_path: UnitInterval = 0.1
    """Stochastic depth probability of the last block; grows linearly from 0 at the first block."""
    trainable_positions: bool = False
    """Train the position embeddings."""
    weight_averaging: Literal["none", "ema", "swa"] = "none"
    """Evaluate and save averaged weights. ema: moving average after each step. swa: mean over the ends of epochs."""
    average_decay: Momentum = 0.999
    """Decay of the moving average; smaller in the first steps."""
    average_from: UnitInterval = 0.4
    """Fraction of the run after which swa starts."""
    average_every: Count = 1
    """Number of epochs between two weights that swa averages."""


@dataclass(frozen=True)
class WaveformAugmentConfig:
    """Noise, gain, filters and speed, in this order; values are uniform in the ranges of MaskSpec."""

    probability: Fraction = 0.0
    """Probability of each effect, for each clip. MaskSpec samples the probability itself uniformly, 0.5 on average."""
    noise_db: tuple[Level, Level] = (0.0, 15.0)
    """Level of white noise in decibels below the clip."""
    volume_db: tuple[Level, Level] = (-2.0, 2.0)
    """Gain in decibels."""
    high_pass: tuple[Positive, Positive] = (5000.0, 12000.0)
    """Cutoff of the high-pass filter in Hz, at most 0.45 of the sample rate."""
    low_pass: tuple[Positive, Positive] = (1000.0, 5000.0)
    """Cutoff of the low-pass filter in Hz."""
    speed: tuple[Speed, Speed] = (0.8, 1.2)
    """Speed factor; the pitch changes with the speed."""


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training clips, in this order. Zero disables each; clips that are scored are not augmented."""

    gain_db: tuple[Decibels, Decibels] = (0, 0)
    """Range of the gain of each clip, an integer number of decibels, both ends included."""
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    """Noise, gain, filters and speed."""
    max_time_shift_seconds: Weight = 0.0
    """Maximum circular shift of each clip in seconds, in either direction."""
    wave_mixup_prob: Fraction = 0.0
    """Probability that the waveform of a clip is mixed with another one of the batch."""
    wave_mixup_alpha: Positive = 2.0
    """The weight of the clip is max(l, 1 - l), l from Beta(alpha, alpha)."""
    noise: Weight = 0.0
    """Uniform noise in [0, r) is added to normalised spectrograms, r uniform up to this value."""
    mask_freq: Fraction = 0.0
    """Maximum fraction of the bands that is set to the mean (SpecAugment)."""
    mask_time: Fraction = 0.0
    """Maximum fraction of the frames of a clip that is set to the mean (SpecAugment)."""
    spec_mixup_prob: Fraction = 0.0
    """Probability that the normalised spectrogram of a clip is mixed with another one of the batch."""
    spec_mixup_alpha: Positive = 0.3
    """See wave_mixup_alpha."""
    spec_mixup_share: Literal["larger", "clip", "batch"] = "larger"
    """Weight of the clip. larger: max(l, 1 - l). clip: l, for each clip (BAT). batch: one l for all clips (EAT)."""
    spec_mixup_partner: Literal["random", "reversed"] = "random"
    """The other clip: a random one of the batch, or that at the same position from the end (EAT, BAT)."""
    patchout: UnitInterval = 0.0
    """Fraction of the patches that is removed from each clip at random (unstructured patchout of PaSST)."""
    patchout_2d: tuple[UnitInterval, UnitInterval] = (0.0, 0.0)
    """Fractions of whole rows (bands) and columns (times) of patches that are removed (structured patchout)."""

    @property
    def waves(self) -> bool:
        """Whether the waveform is augmented."""
        return (
            self.gain_db != (0, 0)
            or self.waveform.probability > 0
            or self.max_time_shift_seconds > 0
            or self.wave_mixup_prob > 0
        )


@dataclass(frozen=True)
class FinetuneRecipe:
    """Complete configuration of fine-tuning."""

    name: str = "small"
    """Name of the recipe."""
    paper: str = ""
    """Paper that the recipe is from."""
    hyperparameter_source: str = ""
    """Source of the hyper-parameters."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """Loss, pooling, clips per epoch and early stopping."""
    adapt: FinetuneOptimConfig = field(default_factory=FinetuneOptimConfig)
    """Optimisation of the weights."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training clips."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Length, batch size, learning rate and optimiser, as in pre-training."""
