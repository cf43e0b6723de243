"""AudioMAE: a masked autoencoder for audio whose decoder attends in local windows.

Huang et al. 2022 (NeurIPS, arXiv 2207.06405).

    x_m hidden, x_v visible (a random fifth of the patches);  z = encoder(x_v)
    y = local decoder(z, mask tokens);                        L = mean over hidden patches |y_m - normalised x_m|^2 / P

As published (paper and reference script):

- Kaldi's filter bank of 128 bands; windows of 1024 frames in 64 x 8 patches, time-major tokens, 80 % hidden.
- ViT-Base with a decoder of 16 local blocks of width 512; targets normalised for each patch.
- Batch 512, 33 epochs of which 3 are warm-up, learning rate 2e-4 * batch / 256, weight decay 1e-4.

``model.decoder=global`` with a depth of 8 is the ablation of the paper. Use it with the structured mask,
``model.mask_ratio_2d=[0.3,0.7]``: local windows do not reach across many columns that are hidden completely.

Different from the publication:

- Positions are those of the patches themselves (``model.positions=audiomae`` is the published table).
- The corpus is normalised by its own mean and deviation. The published (x - mean) / (2 deviation) differs by a factor
  that the first layer can learn.
- A short clip is padded with the mean, and its padding is left out of the loss.
- There is no augmentation by gain.
- A clip longer than the window of 10.24 s gives several windows an epoch, in proportion to its length. A clip of 10 s
  gives one, as published.
- Sizes tiny and small have a decoder with a width of their own.
"""

from __future__ import annotations

from unheard.audio.kaldi import AUDIOMAE
from unheard.model.sizes import ModelConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Huang et al. 2022, arXiv 2207.06405"
NUMBERS = "paper and reference script; positions, statistics and sizes below base ours"


def recipe() -> Recipe:
    """Return the published configuration with the local decoder; ``model.size`` and ``model.frames`` make it
    smaller.
    """
    model = ModelConfig(frames=1024, token_order="time", mask_ratio=0.8, decoder="local")
    objectives = ObjectivesConfig(ReconstructConfig(norm_pix=True))
    training = TrainingConfig(epochs=33.0, batch_size=512, base_learning_rate=2e-4, warmup=3 / 33, weight_decay=1e-4)
    return Recipe("audiomae", PAPER, NUMBERS, frontend=AUDIOMAE, model=model, objectives=objectives, training=training)
