"""M2D: masked modelling duo. The hidden patches are predicted as a teacher sees them, and it sees nothing else.

Niizumi, Takeuchi, Ohishi, Harada, Kashino: "Masked Modeling Duo: Learning Representations by Encouraging Both Networks
to Model the Input", ICASSP 2023 (arXiv 2210.14648).

    p_m = predictor(encoder(x_v), mask tokens);  t_m = teacher(x_m), standardised over channels;  L = mean_m (2 - 2
    cos(p_m, t_m)) teacher <- momentum * teacher + (1 - momentum) * student, once a step, after the optimiser

Other than published:

- The corpus is normalised by its own mean and deviation (published: -7.1 and 4.2).
- A clip shorter than the window is padded with the mean, and its padding is left out of the loss. The reference continues the waveform
  with silence to 6.1 s and counts it.
- Batches run from one epoch into the next; the reference drops the rest of an epoch.
- On CUDA bfloat16 takes the place of float16. Files are resampled by soxr instead of librosa.
- Sizes below base are ours.

The published momentum, 0.99995 to 0.99999, forgets the teacher's first weights over 300 000 steps. In a shorter run the
teacher moves faster, so that as little of them is left at its end; ``teacher.max_initial_weight=1`` takes the published
numbers whatever the length.
"""

from __future__ import annotations

from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.schedules import TeacherConfig
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Niizumi et al. 2023, arXiv 2210.14648"
NUMBERS = "reference code; momentum faster in short runs, and sizes below base, ours"


def recipe() -> Recipe:
    """The published size: ViT-Base, 608 frames, predictor 512 x 8 blocks, mask ratio 0.7, 300 epochs of batch 2048."""
    model = ModelConfig(frames=608, mask_ratio=0.7, decoder_preset="latents")
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), LatentsConfig(weight=1.0))
    training = TrainingConfig(epochs=300.0, batch_size=2048, base_learning_rate=3e-4, warmup=20 / 300, clip_norm=3.0)
    data = DataConfig(crops="one")
    return Recipe(
        "m2d", PAPER, NUMBERS, model=model, objectives=objectives, teacher=TeacherConfig(), training=training, data=data
    )
