"""EAT: targets of a teacher that encodes the whole window, from sixteen masks of it at once.

Chen, Liang, Ma, Zheng, Chen: "EAT: Self-Supervised Pre-Training with Efficient Audio Transformer", IJCAI 2024 (arXiv
2401.03497), after data2vec 2.0 (Baevski et al. 2022, arXiv 2212.07525).

    y_n = LN( mean over blocks l of IN(m_l)_n )          m_l: output of the MLP of block l of teacher(x), all patches
    z, c = encoder(visible patches, CLS),                p = linear(convolutions(z, noise at hidden patches))
    L = sqrt(D) ( mean_hidden mean_d (p - y)^2 + 192 mean_views mean_d (c - mean_n y_n)^2 )

The mask keeps 102 of 512 patches: five squares of 5 x 5, then single patches up to the exact count. The teacher is an
EMA of the whole encoder. Blocks normalise after each sum, tokens are normalised before the first block.

192 is a product of the published batch, 12 clips a GPU times 16 masks, because the reference multiplies the utterance
term by the number of hidden tokens of a GPU. Here it does not depend on the batch. sqrt(D) matters for the clipping at
4.0 only, which acts on nearly every step; it is that of D = 768 for every size.

The numbers are those of the published configuration, stored as fractions of the run: 400 000 steps of 48 clips, 10
epochs of AudioSet; warm-up of 53 333 steps; momentum from 0.9998 to 0.99999 over 100 000 steps. Compared with outputs
of the reference for masks, passes, losses, gradients and four updates (``benchmarks/parity/eat.py``).

Different from the publication:

- The corpus is normalised by its own mean and deviation. The published (x + 4.268) / 9.138 differs by a factor that the
  first layer can learn.
- Padding has the value 0 after normalisation, and is left out of the losses and of the statistics IN. In the reference
  it has the value 0.467 and takes part.
- A clip longer than the window is cropped at random; the reference cuts it to its first 1024 frames.
- Adam's epsilon is added to the corrected root of the second moment; the reference adds it to the uncorrected one.
- The projection of the decoder starts Xavier-uniform with biases of 0; in the reference as PyTorch's default.
- CUDA uses bfloat16 instead of float16. Files are resampled by soxr instead of torchaudio.
- A run that is too short for the published momenta lowers them (``teacher.max_initial_weight``).
- Sizes tiny and small are our choice.
"""

from __future__ import annotations

import math
from dataclasses import replace

from unheard.audio.kaldi import AUDIOMAE
from unheard.model.sizes import MaskConfig, ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.teacher_schedules import TeacherConfig
from unheard.objectives.utterance import UtteranceConfig
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Chen et al. 2024, arXiv 2401.03497"
NUMBERS = "reference code; statistics, padding and sizes below base ours"
STEPS = 400_000
ROOT = 768**0.5
CLS_SCALE = 12 * 16  # clips of one GPU times masks
INITIAL_WEIGHT = math.exp(-13.5)
"""Weight of the teacher's initial weights at the end of the published schedule."""


def recipe() -> Recipe:
    """Return EAT base: ViT-Base, six convolutions of width 768, mask ratio 0.8, 16 views."""
    model = ModelConfig(
        frames=1024,
        token_order="time",
        mask_ratio=0.8,
        final_norm=False,
        norm="post",
        input_norm=True,
        initial="normal",
        positions="eat",
        decoder="conv",
    )
    latents = LatentsConfig(weight=ROOT, standardise_target=False, distance="mse")
    teacher = TeacherConfig(
        momentum_start=0.9998,
        momentum_end=0.99999,
        anneal=100_000 / STEPS,
        max_initial_weight=INITIAL_WEIGHT,
        init_from_student=True,
        sees="all",
        owns="encoder",
        layers=None,
        taps="mlp",
        norm="instance_layer",
    )
    training = TrainingConfig(
        epochs=10.0,
        batch_size=48,
        learning_rate=5e-4,
        warmup=53_333 / STEPS,
        weight_decay_on="all",
        clip_norm=4.0,
    )
    return Recipe(
        name="eat",
        paper=PAPER,
        hyperparameter_source=NUMBERS,
        frontend=AUDIOMAE,
        model=model,
        mask=MaskConfig("inverse_block", block=5, adjust=0.07, views=16),
        objectives=ObjectivesConfig(ReconstructConfig(weight=0.0), latents, UtteranceConfig(weight=ROOT * CLS_SCALE)),
        teacher=teacher,
        training=training,
        data=DataConfig(crops="one"),
    )


def large() -> Recipe:
    """Return EAT large: ViT-Large, three convolutions of 5 x 5 and width 1024, mask ratio 0.75 with seven squares."""
    base = recipe()
    return replace(
        base,
        name="eat-large",
        model=replace(base.model, size="large", mask_ratio=0.75, decoder_kernel=5),
        mask=replace(base.mask, adjust=0.1),
        teacher=replace(base.teacher, anneal=150_000 / STEPS),
        training=replace(base.training, learning_rate=4e-4),
    )
