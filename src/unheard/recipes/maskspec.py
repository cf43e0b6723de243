"""MaskSpec: masked spectrogram prediction at 32 kHz.

Chong, Wang, Zhou, Zeng: "Masked Spectrogram Prediction for Self-Supervised Audio Pre-Training", ICASSP 2023 (arXiv
2204.12768).

    x_m hidden, x_v visible (a random quarter of the patches);  z = encoder(x_v);  y = decoder(z, mask tokens)
    L = mean over hidden patches of  |y_m - (x_m - mean(x_m)) / sqrt(var(x_m) + 1e-6)|^2 / P

As published (reference code, where the paper differs):

- PaSST's front end with bands that vary in training; each band normalised by its own mean and deviation.
- 992 of the 1000 frames of 10 s in 8 x 62 frequency-major patches, three quarters hidden.
- A decoder of 512 x 8 blocks x 16 heads for every size of encoder (base 768, small 384, tiny 192: ``model.size``).
- Batch 512, learning rate 1e-3 * batch / 256, weight decay 0.05, 40 of 400 epochs of warm-up.
- The MLP is four times as wide as the encoder. The paper's 2048 for Base differs from the code and the weights.

Different from the publication:

- The bands vary from window to window rather than from batch to batch.
- The corpus is normalised by its own statistics, with deviations of at least 0.1 (``data.statistics=maskspec``: those
of
  AudioSet).
- Windows begin anywhere in longer clips; the reference takes the first 992 frames.
- A clip shorter than the window is padded with the mean, and its padding is left out of the loss. The reference pads
  the waveform with zeros to 10 s and predicts the padding.
- CUDA uses bfloat16 instead of float16, and the front end computes in float32.

For hours, not thousands of hours, of audio: ``model.size=tiny``, ``training.batch_size=64`` and
``training.learning_rate=2e-4`` (our choice).
"""

from __future__ import annotations

from unheard.audio.kaldi import MASKSPEC
from unheard.model.sizes import ModelConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe, TrainingConfig

PAPER = "Chong et al. 2022, arXiv 2204.12768"
NUMBERS = "reference code where the paper differs; statistics of the corpus are our choice"

SMALLEST_STD = 0.1
"""Smallest deviation of a band; bands that a codec left empty would otherwise be amplified (our choice)."""


def recipe() -> Recipe:
    """Return the published configuration; ``model.size`` and ``model.frames`` make it smaller."""
    model = ModelConfig(frames=992, decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16)
    objectives = ObjectivesConfig(ReconstructConfig(norm_pix=True))
    training = TrainingConfig(epochs=400.0, batch_size=512, base_learning_rate=1e-3, warmup=0.1)
    data = DataConfig(crops="one", statistics="band", min_std=SMALLEST_STD, input="wav")
    return Recipe(
        "maskspec", PAPER, NUMBERS, frontend=MASKSPEC, model=model, objectives=objectives, training=training, data=data
    )
