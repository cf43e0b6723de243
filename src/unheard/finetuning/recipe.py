"""What a fine-tuning recipe is: how a trained encoder learns the classes of a table of labels.

    h = encoder(patches that patchout left);  logits = W norm(mean of h) + b;  loss = CE or BCE against targets that may
    be mixed

A recipe is data, and knows nothing of the encoder it is used on; the recipes by name are in
`unheard.finetuning.named_recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from unheard.audio.waveform import Channel
from unheard.config import Count, Fraction, Momentum, Positive, Weight
from unheard.recipes.recipe import TrainingConfig

Part = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
Decibels = Annotated[int, Field(ge=-60, le=60)]
Level = Annotated[float, Field(ge=-60, le=60)]
Speed = Annotated[float, Field(ge=0.25, le=4)]


@dataclass(frozen=True)
class TaskConfig:
    """What is asked, which clips an epoch has, and who tells when to stop."""

    loss: Literal["auto", "cross-entropy", "bce"] = "auto"
    """One class a clip, or several; auto: what the table has. Binary cross-entropy is averaged over all classes,
    unknown ones as 0.
    """
    pool: Literal["mean", "bands", "cls"] = "mean"
    """Mean of the patch tokens (published), or the means of each band side by side, both behind a fresh norm; or the
    CLS token behind the encoder's own (MaskSpec's variant).
    """
    norm: Literal["layer", "batch"] = "layer"
    """Of pooled patch tokens: over the values of a clip (published), or of each value over the batch, as linear probes
    of MAE have it.
    """
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = ("mix",)
    """One model is trained for each of these channels of the files; their logits are averaged."""
    balance: Literal["none", "class"] = "none"
    """Draw clips of rare classes more often, without replacement within an epoch; or each clip once."""
    class_weight_offset: Weight = 100.0
    """A class with n clips weighs 1000 / (n + offset), a clip the sum over its classes (MaskSpec: 100, AudioMAE: 0.01).
    """
    epoch_clips: Count | None = None
    """Clips of one epoch; null: as many as there are."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    """Share of the training clips that choose the best weights when the table has no split valid; groups stay together.
    With 0 all clips train and the last weights are kept.
    """
    patience: Count | None = None
    """Stop after so many epochs without a better validation score; null: never."""


@dataclass(frozen=True)
class FinetuneOptimConfig:
    """How the encoder's weights move."""

    layer_decay: Scale = 0.75
    """Learning rate of each block over that of the block behind it."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """Linear warm-up and half a cosine (MAE); or PaSST's: exp(-5 (1 - t)^2) for the warm-up, the full rate, a straight
    line down.
    """
    decay_range: tuple[Fraction, Fraction] = (0.4, 0.8)
    """Shares of the run between which the straight line falls; (1, 1): never."""
    min_learning_rate: Weight = 1e-6
    """Where cosine or line end."""
    drop_path: Part = 0.1
    """Chance that a sample leaves out a branch of the last block; grows linearly from 0 in the first."""
    trainable_positions: bool = False
    """Let training move the position table."""
    weight_averaging: Literal["none", "ema", "swa"] = "none"
    """Score and keep an average of the weights: a moving one after each step, or the plain mean of the ends of epochs.
    """
    average_decay: Momentum = 0.999
    """Of the moving average; less in the first steps."""
    average_from: Part = 0.4
    """Share of the run after which ends of epochs are averaged."""
    average_every: Count = 1
    """Epochs between two ends that are averaged."""


@dataclass(frozen=True)
class WaveformAugmentConfig:
    """Noise, loudness, filters and speed, in this order; the ranges are MaskSpec's, each draw is uniform."""

    probability: Fraction = 0.0
    """Of each of them, for each clip. MaskSpec draws the chance itself anew each time, uniform: 0.5 in the mean."""
    noise_db: tuple[Level, Level] = (0.0, 15.0)
    """White noise so many decibels below the clip."""
    volume_db: tuple[Level, Level] = (-2.0, 2.0)
    """Louder by so much."""
    high_pass: tuple[Positive, Positive] = (5000.0, 12000.0)
    """Cutoff in Hz, at most 0.45 of the sample rate."""
    low_pass: tuple[Positive, Positive] = (1000.0, 5000.0)
    """Cutoff in Hz."""
    speed: tuple[Speed, Speed] = (0.8, 1.2)
    """Played so many times as fast, pitch with it."""


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training clips, in this order. Zero turns each off; clips that are scored are never touched."""

    gain_db: tuple[Decibels, Decibels] = (0, 0)
    """Every clip gets louder by a whole number of decibels in this range, both ends included."""
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    """Noise, loudness, filters, speed."""
    max_time_shift_seconds: Weight = 0.0
    """Every clip is turned round by up to so much, either way."""
    wave_mixup_prob: Fraction = 0.0
    """Chance that a clip is mixed with another one of the batch, as sound."""
    wave_mixup_alpha: Positive = 2.0
    """The clip's own share is max(l, 1 - l), l from Beta(alpha, alpha)."""
    noise: Weight = 0.0
    """Uniform noise in [0, r) is added to normalised spectrograms, r uniform up to this."""
    mask_freq: Fraction = 0.0
    """One stretch of up to this share of the bands is set to the mean (SpecAugment)."""
    mask_time: Fraction = 0.0
    """One stretch of up to this share of the clip's frames is set to the mean."""
    spec_mixup_prob: Fraction = 0.0
    """Chance that a clip is mixed with another one of the batch, as a normalised spectrogram."""
    spec_mixup_alpha: Positive = 0.3
    """As wave_mixup_alpha."""
    patchout: Part = 0.0
    """Share of the patches that each clip leaves out, drawn one by one (PaSST's unstructured patchout)."""
    patchout_2d: tuple[Part, Part] = (0.0, 0.0)
    """Shares of whole rows (bands) and whole columns (times) of patches left out instead (structured patchout)."""

    @property
    def waves(self) -> bool:
        """Whether something is done to the sound itself."""
        return (
            self.gain_db != (0, 0)
            or self.waveform.probability > 0
            or self.max_time_shift_seconds > 0
            or self.wave_mixup_prob > 0
        )


@dataclass(frozen=True)
class FinetuneRecipe:
    """A whole way of fine-tuning."""

    name: str = "small"
    """The recipe's name."""
    paper: str = ""
    """Where it comes from."""
    hyperparameter_source: str = ""
    """Where its numbers come from."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """Classes, clips of an epoch, stopping."""
    adapt: FinetuneOptimConfig = field(default_factory=FinetuneOptimConfig)
    """How the encoder's weights move."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to training clips."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Length, batch, rate, optimiser; as in pre-training."""
