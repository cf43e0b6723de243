"""MATPAC and MATPAC++: masked latent prediction and classification.

Quelennec, Chouteau, Peeters, Essid: "Masked Latent Prediction and Classification for Self-Supervised Audio
Representation Learning", ICASSP 2025 (arXiv 2502.12031); the same: "MATPAC++: Enhanced Masked Latent Prediction for
Self-Supervised Audio Representation Learning" (arXiv 2508.12709).

    p_m = predictor(encoder(x_v), mask tokens);  t_m = teacher(x_m)
    L   = 1/2 mean_m (2 - 2 cos(p_m, t_m)) + 1/2 mean_m H(softmax((h'(t_m) - c) / tau_t), softmax(h(p_m) / 0.1))

h is a head over 2048 prototypes, h' its EMA, c the centre of the outputs of h'. The teachers are updated between the
gradients and the optimiser step. MATPAC++ predicts five hypotheses p_m1 .. p_m5. The first term weights them by their
distance, with a decreasing temperature, and h receives the nearest one only.

The numbers are those of the published configuration, stored as fractions of the run:

- 294 816 steps of 2048 windows of 608 frames
- learning rate 3e-4 (absolute) with a warm-up of 19 654 steps
- tau_t from 0.04 to 0.07 over 9 827 steps
- weight decay 0.05 on all parameters, Adam's epsilon 1e-6

Different from the publication:

- The corpus is normalised by its own mean and deviation (published: -7.056 and 4.193).
- A clip shorter than the window is padded with the mean, and its padding is left out of the losses. The reference drops
  clips of less than 608 frames; leave them out of the corpus to do the same.
- A run that is too short for the published momenta lowers them (``teacher.max_initial_weight``).
- The momentum of the teacher head ends at 1, as configured. The reference uses that of the encoder, 0.99999, in its
last
  step.
- CUDA uses bfloat16 instead of float16. Files are resampled by soxr instead of torchaudio.
- Sizes below base are our choice; their predictor and head are smaller, too.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.audio.frontend import MATPAC
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.prototypes import PrototypesConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.teacher_schedules import TeacherConfig
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe, TrainingConfig


def recipe() -> Recipe:
    """Return MATPAC: ViT-Base, predictor 512 x 8 blocks, mask ratio 0.7, both objectives at weight 0.5."""
    training = TrainingConfig(
        epochs=300.0,
        batch_size=2048,
        learning_rate=3e-4,
        warmup=19_654 / 294_816,
        weight_decay_on="all",
        adam_eps=1e-6,
        clip_norm=3.0,
    )
    return Recipe(
        name="matpac",
        paper="Quelennec et al. 2025, arXiv 2502.12031",
        hyperparameter_source="reference code; momentum in short runs, and sizes below base, are our choice",
        frontend=MATPAC,
        model=ModelConfig(frames=608, mask_ratio=0.7, decoder_preset="latents"),
        objectives=ObjectivesConfig(
            ReconstructConfig(weight=0.0),
            LatentsConfig(weight=0.5, standardise_target=False),
            PrototypesConfig(weight=0.5),
        ),
        teacher=TeacherConfig(update_at="before_step"),
        training=training,
        data=DataConfig(crops="one"),
    )


def plus() -> Recipe:
    """Return MATPAC++: MATPAC with five hypotheses."""
    single = recipe()
    return replace(
        single,
        name="matpac++",
        paper="Quelennec et al. 2025, arXiv 2508.12709",
        model=replace(single.model, num_hypotheses=5),
    )
