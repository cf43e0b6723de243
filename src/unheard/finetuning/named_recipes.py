"""Named fine-tuning recipes, one for each data set in the papers.

MaskSpec (Chong et al. 2022, arXiv 2204.12768), from the reference code: ``audioset`` ... ``dcase2019``.

- AdamW, weight decay 0.05, layer decay 0.75, drop path 0.1, trained positions
- 5 epochs of warm-up, then half a cosine down to 1e-6
- gain, noise, filters, speed, circular shift, mixup of waveforms (probability 0.5) and of every spectrogram
- SpecAugment, patchout
- the reference selects the best epoch on test clips; we select it on validation clips

AudioMAE (Huang et al. 2022, arXiv 2207.06405), from the reference scripts: ``audiomae-audioset`` ... ``audiomae-scv2``.

- fixed positions, structured patchout of 1/5 of the rows and 1/5 of the columns
- mixup of waveforms with Beta(10, 10), SpecAugment

PaSST (Koutini et al. 2022, arXiv 2110.05069), from the reference code: ``passt-audioset``, ``passt-esc50``,
``passt-openmic``.

- small learning rates, structured patchout, weights averaged over the ends of epochs
- linear decay from epoch 50 of 130; no decay in runs of 10 epochs

EAT (Chen et al. 2024, arXiv 2401.03497), from the reference code: ``eat-audioset`` ... ``eat-scv2``.

- the CLS token with a new norm; layer decay 0.65 of blocks only, weight decay of all weights
- mixup of spectrograms with the reversed batch, one weight for the batch; one stripe of bands and one of frames

BAT (ICML 2026, arXiv 2602.16305), from the reference code: ``bat-audioset`` ... ``bat-scv2``.

- the CLS token with a new norm and dropout; layer decay 0.75, learning rate at least 1e-6
- asymmetric binary cross-entropy, mixup of spectrograms with the reversed batch

Differences from the publications:

- Values that the references sample once per batch are sampled for each clip.
- SpecAugment widths are fractions of bands and frames, for any window length; masked values are set to the mean.
- The circular shift is applied as in PaSST, by up to 50 samples.
- Noise, filters and speed are our own code with the ranges of MaskSpec.
- A partly filled last column of patches is kept: 5 s give 32 columns and 256 tokens; the reference has 31 and 248.
- Patchout is a fraction of the tokens (200 of 496: 0.403).
- Label smoothing is omitted where it had no effect: on dense targets.
- EAT and BAT: the window is that of the model. The circular shift is up to 5 s. Rates of the warm-up begin at 0 or
  1e-6, and no group has a floor of its own.
- EAT: the gain is uniform in decibels. Binary cross-entropy is a mean over classes; the reference divides its sum by
  the number of labels, or by the batch. AudioSet is balanced by classes as for AudioMAE.
- BAT: SpecAugment has one stripe an axis, twice as wide where the reference has two. There is no colour noise and no
  shift of spectrograms.

The recipe ``small`` is our own, for hundreds of clips on one machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from unheard.errors import ConfigError
from unheard.finetuning.recipe import (
    AugmentConfig,
    FinetuneOptimConfig,
    FinetuneRecipe,
    TaskConfig,
    WaveformAugmentConfig,
)
from unheard.recipes.recipe import TrainingConfig

MASKSPEC = "Chong et al. 2022, arXiv 2204.12768"
AUDIOMAE = "Huang et al. 2022, arXiv 2207.06405"
PASST = "Koutini et al. 2022, arXiv 2110.05069"
EAT = "Chen et al. 2024, arXiv 2401.03497"
BAT = "BAT, ICML 2026, arXiv 2602.16305"
ADAM_BETAS = (0.9, 0.999)  # PyTorch's default, as in every reference
ROLL = 50 / 32000  # MaskSpec and PaSST: 50 samples at 32 kHz
PATCHOUT = 0.403  # 200 of 496 tokens, as MaskSpec; 104 of 256 for five seconds, where MaskSpec removes 100 of 248


def _training(
    epochs: float, batch_size: int, rate: float, warmup_epochs: float, weight_decay: float = 0.05
) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs,
        batch_size=batch_size,
        base_learning_rate=rate,
        warmup=warmup_epochs / epochs,
        weight_decay=weight_decay,
        betas=ADAM_BETAS,
        compile=False,
        checkpoint_every=200,
        keep_checkpoints=1,
    )


def _maskspec(
    name: str,
    task: TaskConfig,
    *,
    epochs: float = 80,
    batch: int = 64,
    rate: float = 1e-3,
    alpha: float | None = 0.3,
    out: float = PATCHOUT,
) -> FinetuneRecipe:
    """Return a row of MaskSpec's table; without ``alpha``, mixup is disabled."""
    mixed = 0.0 if alpha is None else 1.0
    augment = AugmentConfig(
        gain_db=(-7, 6),
        waveform=WaveformAugmentConfig(probability=0.5),
        max_time_shift_seconds=ROLL,
        wave_mixup_prob=0.5 * mixed,
        mask_freq=48 / 128,
        mask_time=192 / 1000,
        spec_mixup_prob=mixed,
        spec_mixup_alpha=alpha or 0.3,
        patchout=out,
    )
    adapt = FinetuneOptimConfig(trainable_positions=True)
    return FinetuneRecipe(name, MASKSPEC, "reference code", task, adapt, augment, _training(epochs, batch, rate, 5))


def _audiomae(
    name: str, task: TaskConfig, training: TrainingConfig, augment: AugmentConfig, numbers: str
) -> FinetuneRecipe:
    return FinetuneRecipe(name, AUDIOMAE, numbers, task, FinetuneOptimConfig(), augment, training)


def _passt(
    name: str, loss: Literal["bce", "cross-entropy"], epochs: int, rate: float, rows: int, columns: int
) -> FinetuneRecipe:
    """Return a row of PaSST's table: ``rows`` of 12 and ``columns`` of 99 are removed by patchout.

    In long runs, decay and weight averaging start at epoch 50.
    """
    long = epochs > 50
    adapt = FinetuneOptimConfig(
        layer_decay=1.0,
        schedule="linear",
        decay_range=(50 / epochs, 100 / epochs) if long else (1.0, 1.0),
        min_learning_rate=0.01 * rate,
        drop_path=0.0,
        trainable_positions=True,
        weight_averaging="swa",
        average_from=(50 if long else 2) / epochs,
        average_every=5 if long else 1,
    )
    training = replace(_training(epochs, 12, 0.0, 5, 1e-4), learning_rate=rate)
    base = _maskspec(name, TaskConfig()).augment
    augment = replace(base, waveform=WaveformAugmentConfig(), patchout=0.0, patchout_2d=(rows / 12, columns / 99))
    return FinetuneRecipe(name, PASST, "reference code", TaskConfig(loss=loss), adapt, augment, training)


def _small() -> FinetuneRecipe:
    """Return our own recipe.

    Band pooling adds 8 points to a linear probe of drum hits. Learning rate and augmentation were tried in few runs.
    """
    augment = AugmentConfig(gain_db=(-6, 6), mask_freq=0.2, mask_time=0.2, spec_mixup_prob=0.5, patchout=0.2)
    training = _training(40, 32, 8e-3, 4)
    return FinetuneRecipe("small", "", "ours", TaskConfig(pool="bands"), FinetuneOptimConfig(), augment, training)


_ONE, _MANY = TaskConfig(loss="cross-entropy"), TaskConfig(loss="bce")
_WHOLE = replace(_MANY, balance="class", epoch_clips=100_000)
_AUDIOSET = AugmentConfig(
    wave_mixup_prob=0.5, wave_mixup_alpha=10.0, mask_freq=48 / 128, mask_time=192 / 1024, patchout_2d=(0.2, 0.2)
)

_BALANCED = replace(_MANY, balance="class", class_weight_offset=0.01, epoch_clips=200_000)


def _steps(steps: int, batch_size: int, rate: float, warmup: int) -> TrainingConfig:
    """Return the length and the optimiser of EAT and BAT."""
    base = _training(1, batch_size, 0.0, 0)
    return replace(base, epochs=None, steps=steps, learning_rate=rate, warmup=warmup / steps, betas=(0.9, 0.95))


def _eat(name: str, task: TaskConfig, training: TrainingConfig, mask: float, mixed: bool = True) -> FinetuneRecipe:
    """Return a row of EAT's table; ``mask`` is the share of both axes that SpecAugment may cover."""
    augment = AugmentConfig(
        gain_db=(-6, 3), max_time_shift_seconds=5.0, mask_freq=mask, mask_time=mask,
        spec_mixup_prob=0.9 if mixed else 0.0, spec_mixup_alpha=0.8, spec_mixup_share="batch",
        spec_mixup_partner="reversed",
    )  # fmt: skip
    adapt = FinetuneOptimConfig(layer_decay=0.65, decay_embedding=False)
    training = replace(training, weight_decay_on="all")
    return FinetuneRecipe(name, EAT, "reference code", replace(task, pool="cls"), adapt, augment, training)


def _bat(
    name: str, task: TaskConfig, training: TrainingConfig, mask: tuple[float, float], dropout: float = 0.2
) -> FinetuneRecipe:
    """Return a row of BAT's table; ``mask`` is the share of bands and of frames that SpecAugment may cover."""
    mixed = task.loss == "bce"
    augment = AugmentConfig(
        max_time_shift_seconds=5.0, mask_freq=mask[0], mask_time=mask[1],
        spec_mixup_prob=0.9 if mixed else 0.0, spec_mixup_alpha=0.8, spec_mixup_share="clip",
        spec_mixup_partner="reversed",
    )  # fmt: skip
    adapt = FinetuneOptimConfig(min_learning_rate=0.0, head_dropout=dropout)
    training = replace(training, min_learning_rate=1e-6)
    task = replace(task, pool="cls", asymmetric=mixed)
    return FinetuneRecipe(name, BAT, "reference code", task, adapt, augment, training)


FINETUNE_RECIPES: dict[str, Callable[[], FinetuneRecipe]] = {
    "small": _small,
    "audioset": lambda: _maskspec("audioset", _WHOLE, batch=512),
    "audioset-20k": lambda: _maskspec("audioset-20k", _MANY, batch=512),
    "esc50": lambda: _maskspec("esc50", _ONE),
    "openmic": lambda: _maskspec("openmic", _MANY, alpha=None),
    "scv2": lambda: _maskspec("scv2", _ONE, out=0.0),
    "dcase2018": lambda: _maskspec("dcase2018", _ONE),
    "dcase2019": lambda: _maskspec(
        "dcase2019", replace(_ONE, channels=("left", "right", "mid")), epochs=200, rate=5e-3, alpha=0.2
    ),
    "audiomae-audioset": lambda: _audiomae(
        "audiomae-audioset", replace(_MANY, balance="class", class_weight_offset=0.01, epoch_clips=200_000),
        _training(100, 64, 2e-4, 10, 5e-4), _AUDIOSET, "reference script; batch ours",
    ),
    "audiomae-20k": lambda: _audiomae(
        "audiomae-20k", _MANY, _training(60, 32, 1e-3, 4, 5e-4), _AUDIOSET, "reference script"
    ),
    "audiomae-esc50": lambda: _audiomae(
        "audiomae-esc50", _ONE, _training(50, 64, 1e-3, 5), AugmentConfig(mask_freq=96 / 128, mask_time=24 / 512),
        "reference script",
    ),
    "audiomae-scv2": lambda: _audiomae(
        "audiomae-scv2", _ONE, _training(50, 64, 1e-3, 5), AugmentConfig(max_time_shift_seconds=0.1, noise=0.1),
        "noise and roll reference, rest ours",
    ),
    "passt-audioset": lambda: _passt("passt-audioset", "bce", 130, 2e-5, 4, 40),
    "passt-esc50": lambda: _passt("passt-esc50", "cross-entropy", 10, 1e-5, 3, 10),
    "passt-openmic": lambda: _passt("passt-openmic", "bce", 10, 1e-5, 4, 40),
    "eat-audioset": lambda: _eat("eat-audioset", _BALANCED, _steps(300_000, 96, 5e-5, 30_000), 0.2),
    "eat-20k": lambda: _eat("eat-20k", _MANY, _steps(40_000, 48, 5e-5, 4_000), 0.2),
    "eat-esc50": lambda: _eat(
        "eat-esc50", replace(_ONE, label_smoothing=0.1), _steps(4_000, 48, 5e-5, 400), 0.4, mixed=False
    ),
    "eat-scv2": lambda: _eat("eat-scv2", _MANY, _steps(40_000, 256, 2e-4, 4_000), 0.2),
    "bat-audioset": lambda: _bat("bat-audioset", _BALANCED, _steps(200_000, 96, 5e-5, 20_000), (32 / 128, 128 / 1024)),
    "bat-20k": lambda: _bat("bat-20k", _MANY, _steps(40_000, 48, 5e-5, 4_000), (32 / 128, 128 / 1024)),
    "bat-esc50": lambda: _bat("bat-esc50", _ONE, _steps(4_000, 48, 5e-5, 400), (16 / 128, 32 / 512)),
    "bat-scv2": lambda: _bat("bat-scv2", _ONE, _steps(10_000, 256, 5e-5, 1_000), (16 / 128, 32 / 112), 0.0),
}  # fmt: skip


def find_finetune_recipe(name: str) -> FinetuneRecipe:
    """Return a fine-tuning recipe by name.

    Raises
    ------
    ConfigError
        When the recipe does not exist.
    """
    if name in FINETUNE_RECIPES:
        return FINETUNE_RECIPES[name]()
    near = difflib.get_close_matches(name.lower(), FINETUNE_RECIPES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"available: {', '.join(FINETUNE_RECIPES)}"
    raise ConfigError(f"there is no fine-tuning recipe {name!r}; {hint}")
