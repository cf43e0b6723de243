"""AudioMAE: a masked autoencoder for audio whose decoder looks at small windows.

Huang, Xu, Li, Baevski, Auli, Galuba, Metze, Feichtenhofer: "Masked Autoencoders that Listen", NeurIPS 2022 (arXiv
2207.06405).

    x_m hidden, x_v heard (a random fifth of the patches);  z = encoder(x_v)
    y = local decoder(z, mask tokens);                      L = mean over hidden patches |y_m - normalised x_m|^2 / P

Published and kept: Kaldi's filter bank of 128 bands, windows of 1024 frames in 64 x 8 patches, time-major tokens, 80 %
hidden, ViT-Base with a decoder of 16 local blocks of width 512, targets normalised patch by patch, batch 512, 33 epochs
of which 3 warm up, learning rate 2e-4 * batch / 256, weight decay 1e-4 (paper and reference script).
``model.decoder=global`` with a depth of 8 is its ablation, which ``model.mask_ratio_2d=[0.3,0.7]``, the structured
mask, goes with: windows do not reach across many columns that are hidden whole.

Other than published:

- Positions are those of the patches themselves (``model.positions=audiomae`` is the published table).
- The corpus is normalised by its own mean and deviation (published: (x - mean) / (2 deviation), a factor the first layer absorbs).
- A short clip is padded with the mean, and its padding is left out of the loss.
- There is no augmentation by gain.
- Clips longer than the window of 10.24 s give as many windows an epoch as their length holds; a clip of 10 s gives one, as published.
- Sizes tiny and small have a decoder of their own width.
"""

from __future__ import annotations

from unheard.audio.kaldi import AUDIOMAE
from unheard.model.sizes import ModelConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Huang et al. 2022, arXiv 2207.06405"
NUMBERS = "paper and reference script; positions, statistics and sizes below base ours"


def recipe() -> Recipe:
    """The published configuration with the local decoder; smaller by ``model.size``, shorter by ``model.frames``."""
    model = ModelConfig(frames=1024, token_order="time", mask_ratio=0.8, decoder="local")
    objectives = ObjectivesConfig(ReconstructConfig(norm_pix=True))
    training = TrainingConfig(epochs=33.0, batch_size=512, base_learning_rate=2e-4, warmup=3 / 33, weight_decay=1e-4)
    return Recipe("audiomae", PAPER, NUMBERS, frontend=AUDIOMAE, model=model, objectives=objectives, training=training)
