"""clap-mini: a small CLAP that is trained from scratch, for users without the weights of a large one.

It maps audio and captions to one space, after Elizalde et al. 2023 (arXiv 2206.04769) and Wu et al. 2023 (arXiv
2211.06687). Half of the patches are hidden in training, as in FLIP for images (Li et al. 2023, arXiv 2212.00794), which
allows twice the windows in the same time.

    a = W_a norm(mean_v z_v);  c = W_c text(caption);  L = symmetric cross-entropy of  scale cos(a_i, c_j)

Different from the publications: sizes, batch and schedule are our choice, and there are no published numbers for them.

The encoder is trained, the text encoder (all-MiniLM-L6-v2) is frozen. Captions are read from the column ``caption`` of
the corpus. ``unheard data captions`` writes them for fetched corpora, from file names and folders. The trained model
classifies sounds without labels (``unheard predict MODEL AUDIO --labels "dog, rain"``), and can be the teacher of other
models (``objectives.distill.teachers``).
"""

from __future__ import annotations

from unheard.audio.frontend import MSM_MAE_16K
from unheard.model.sizes import ModelConfig
from unheard.objectives.contrast import ContrastConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig

PAPER = "ours, after CLAP and FLIP"


def recipe() -> Recipe:
    """Return the configuration: size tiny, windows of two seconds, batches of 256 windows and captions (our choice)."""
    model = ModelConfig(size="tiny", frames=208, mask_ratio=0.5)
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), ContrastConfig(weight=1.0))
    training = TrainingConfig(batch_size=256, base_learning_rate=5e-4, warmup=0.1)
    return Recipe(
        "clap-mini",
        "ours, after CLAP and FLIP",
        "ours",
        frontend=MSM_MAE_16K,
        model=model,
        objectives=objectives,
        training=training,
    )
