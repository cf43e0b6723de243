"""clap-mini: a small CLAP of our own, where no weights of a large one can be had. Sounds and captions in one space.

After Elizalde et al. 2023 (arXiv 2206.04769) and Wu et al. 2023 (arXiv 2211.06687); half of the patches are hidden in
training, as FLIP does for images (Li et al. 2023, arXiv 2212.00794): twice the windows for the same time.

    a = W_a norm(mean_v z_v);  c = W_c text(caption);  L = symmetric cross-entropy of  scale cos(a_i, c_j)

Other than published: nothing here has published numbers; sizes, batch and schedule are our choice.

The encoder is ours, the text encoder (all-MiniLM-L6-v2) is frozen. Captions come from the column ``caption`` of the
corpus: ``unheard data captions`` writes them for fetched corpora, from names and folders. A model so trained names
sounds it was never given labels of (``unheard predict MODEL AUDIO --labels "dog, rain"``), and teaches others
(``objectives.clap.teacher``).
"""

from __future__ import annotations

from unheard.audio.frontend import MSM_MAE_16K
from unheard.model.sizes import ModelConfig
from unheard.objectives.contrast import ContrastConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig

PAPER = "ours, after CLAP and FLIP"


def recipe() -> Recipe:
    """Our choice throughout: size tiny, windows of two seconds, batches of 256, which is how many captions are told
    apart.
    """
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
