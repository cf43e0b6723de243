"""M2D: masked modelling duo. The targets are a teacher's latents of the hidden patches, its only input.

Niizumi, Takeuchi, Ohishi, Harada, Kashino: "Masked Modeling Duo: Learning Representations by Encouraging Both Networks
to Model the Input", ICASSP 2023 (arXiv 2210.14648).

    p_m = predictor(encoder(x_v), mask tokens);  t_m = teacher(x_m), standardised over channels
    L = mean_m (2 - 2 cos(p_m, t_m)) teacher <- momentum * teacher + (1 - momentum) * student, once a step, after the
    optimiser

Different from the publication:

- The corpus is normalised by its own mean and deviation (published: -7.1 and 4.2).
- A clip shorter than the window is padded with the mean, and its padding is left out of the loss. The reference pads
  the waveform with silence to 6.1 s, without leaving it out.
- Batches run from one epoch into the next; the reference drops the rest of an epoch.
- CUDA uses bfloat16 instead of float16. Files are resampled by soxr instead of librosa.
- Sizes below base are our choice.

The published EMA momentum, 0.99995 to 0.99999, assumes 300 000 steps. A shorter run lowers it, so that the initial
weights of the teacher contribute no more at the end than in the paper. ``teacher.max_initial_weight=1`` keeps the
published momentum for any length.

In runs of some hundred thousand windows, the teacher's features still collapse to an effective rank below 2
(docs/log.md, 2026-11-30). `short` has settings under which they do not.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.teacher_schedules import TeacherConfig
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Niizumi et al. 2023, arXiv 2210.14648"
NUMBERS = "reference code; momentum in short runs, and sizes below base, are our choice"


def recipe() -> Recipe:
    """Return the published configuration: ViT-Base, 608 frames, predictor 512 x 8 blocks, mask ratio 0.7, 300
    epochs.
    """
    model = ModelConfig(frames=608, mask_ratio=0.7, decoder_preset="latents")
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), LatentsConfig(weight=1.0))
    training = TrainingConfig(epochs=300.0, batch_size=2048, base_learning_rate=3e-4, warmup=20 / 300, clip_norm=3.0)
    data = DataConfig(crops="one")
    return Recipe(
        "m2d", PAPER, NUMBERS, model=model, objectives=objectives, teacher=TeacherConfig(), training=training, data=data
    )


def short() -> Recipe:
    """Return settings for runs of some hundred thousand windows, under which the teacher's features keep a high rank.

    The targets are those of EAT and BAT. The teacher is an average of the whole encoder and encodes the whole window.
    The outputs of all blocks are normalised over its patches, and averaged. The loss is the mean squared error. The
    spectrograms are normalised by the mean and deviation of each band. Masks, student, predictor and momentum are those
    of M2D. All of this is our choice.
    """
    base = recipe()
    latents = LatentsConfig(weight=1.0, standardise_target=False, distance="mse")
    return replace(
        base,
        name="m2d-short",
        hyperparameter_source="our choice, for runs of some hundred thousand windows",
        model=replace(base.model, size="tiny", frames=96),
        objectives=ObjectivesConfig(ReconstructConfig(weight=0.0), latents),
        teacher=TeacherConfig(sees="all", owns="encoder", layers=None, taps="block", norm="instance_layer"),
        training=replace(base.training, epochs=None, batch_size=64, learning_rate=5e-4),
        data=replace(base.data, crops="length", statistics="band"),
    )
