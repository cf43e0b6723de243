"""BAT: EAT with decibels, gated attention, targets from the ends of blocks and a decoder of Transformer blocks.

"BAT: Better Audio Transformer Guided by Convex Gated Probing", ICML 2026 (arXiv 2602.16305).

    y_n = LN( mean over blocks l of IN(h_l)_n )          h_l: output of block l of teacher(x), all patches
    z, c = encoder(visible patches, CLS),                p = W decoder(z, mask tokens)
    L = mean_hidden mean_d (p - y)^2 + mean_views mean_d (c - mean_n y_n)^2
    attention: o = proj( heads(softmax(q k) v) * sigmoid(W_g x + b_g) )

Masks, views, teacher and block layout are those of EAT (`unheard.recipes.eat`). The decoder is as wide as the encoder,
has six gated post-norm blocks over all patches without CLS, and trained positions.

The numbers are those of the reference's configuration, stored as fractions of the run: 400 000 steps of 48 clips, 10
epochs of AudioSet; warm-up of 53 000 steps; momentum from 0.9998 to 0.99999 over 100 000 steps; learning rate at least
1e-6. Compared with outputs of the reference for front end, masks, passes, losses, gradients and four updates
(``benchmarks/parity/bat.py``).

Different from the publication:

- Decibels are cut at 80 below the maximum and scaled to [0, 1] within each window after the crop. The reference does so
  within each clip, after padding short waveforms with silence to the longest of the batch.
- Padding is left out of the losses and of the statistics IN.
- Waveforms are not rolled.
- The patch embedding starts Xavier-uniform; in the reference as PyTorch's default.
- The EMA after update k uses the momentum of update k + 1.
- A run that is too short for the published momenta lowers them (``teacher.max_initial_weight``).
- Sizes tiny and large are our choice.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.audio.decibels import DB_MINMAX
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.utterance import UtteranceConfig
from unheard.recipes import eat
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig

PAPER = "BAT, ICML 2026, arXiv 2602.16305"
NUMBERS = "reference code; padding, crops and sizes tiny and large ours"
TARGET_EPS = 1e-6


def recipe() -> Recipe:
    """Return BAT base: gated ViT-Base, decoder 768 x 6 blocks, mask ratio 0.8, 16 views."""
    base = eat.recipe()
    model = ModelConfig(
        frames=1024,
        token_order="time",
        mask_ratio=0.8,
        final_norm=False,
        norm="post",
        input_norm=True,
        gate=True,
        positions="audiomae",
        decoder_preset="wide",
        decoder_projection="linear",
        decoder_cls=False,
        decoder_positions="audiomae",
        decoder_trainable_positions=True,
    )
    latents = LatentsConfig(weight=1.0, standardise_target=False, distance="mse")
    training = TrainingConfig(
        epochs=10.0,
        batch_size=48,
        learning_rate=5e-4,
        min_learning_rate=1e-6,
        warmup=53_000 / eat.STEPS,
        weight_decay_on="all",
    )
    return replace(
        base,
        name="bat",
        paper=PAPER,
        hyperparameter_source=NUMBERS,
        frontend=DB_MINMAX,
        model=model,
        objectives=ObjectivesConfig(ReconstructConfig(weight=0.0), latents, UtteranceConfig(weight=1.0)),
        teacher=replace(base.teacher, taps="block", norm_eps=TARGET_EPS),
        training=training,
    )


def small() -> Recipe:
    """Return BAT small: width 384, decoder 384 x 6 blocks."""
    base = recipe()
    return replace(base, name="bat-small", model=replace(base.model, size="small"))
