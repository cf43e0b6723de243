"""MSM-MAE: masked spectrogram modelling with a masked autoencoder.

Niizumi, Takeuchi, Ohishi, Harada, Kashino: "Masked Spectrogram Modeling using Masked Autoencoders for Learning
General-purpose Audio Representation", HEAR 2021, PMLR 166, 2022 (arXiv 2204.12260).

    x_m hidden, x_v visible (a random quarter of the patches);  z = encoder(x_v)
    y = decoder(z, mask tokens);                                L = mean over hidden patches |y_m - x_m|^2 / P
    feature of time step j: the concatenated tokens of its bands (equation 1)

Table 1 of the paper lists nine inputs, all ViT-Base: 96, 208, 304, 400 and 512 frames with 16x16 patches, and four
other patch shapes. ``msm-mae`` is our default for the user's own audio.

The nine configurations differ from the publication:

- The corpus is normalised by its own mean and deviation. The reference estimates them from 10,000 random crops.
- A short clip is padded with the mean, and its padding is left out of the loss. The reference pads with 0 before it
  normalises, which is louder than most sounds, and predicts the padding.
- The first frame of a crop may be the last one that fits; the reference never selects it.
- Batches run from one epoch into the next; the reference drops the rest of an epoch.
- CUDA uses bfloat16 instead of float16. Files at other sample rates are resampled by soxr instead of librosa.
- Attention has a bias for keys, which changes no output.

``msm-mae`` differs from them in size, window, batch, learning rate, clipping and decoder positions. Its number of steps
depends on the size of the corpus. With ``data.crops=length`` a clip gives windows in proportion to its length.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.model.sizes import ModelConfig
from unheard.recipes.recipe import DataConfig, Recipe, TrainingConfig

PAPER = "Niizumi et al. 2022, arXiv 2204.12260"

# paper: batch 512, 100 epochs, 10 of warm-up, learning rate 6e-4
# reference code: learning rate 1.5e-4 * batch / 128 = 3e-4 * batch / 256
PAPER_TRAINING = TrainingConfig(epochs=100.0, batch_size=512, base_learning_rate=3e-4, warmup=0.1)

# frames, patch_size: paper, table 1
TABLE_1: dict[str, tuple[int, tuple[int, int]]] = {
    "msm-mae-96": (96, (16, 16)),
    "msm-mae-208": (208, (16, 16)),
    "msm-mae-304": (304, (16, 16)),
    "msm-mae-400": (400, (16, 16)),
    "msm-mae-512": (512, (16, 16)),
    "msm-mae-200-16x8": (200, (16, 8)),
    "msm-mae-200-16x4": (200, (16, 4)),
    "msm-mae-208-8x16": (208, (8, 16)),
    "msm-mae-304-80x4": (304, (80, 4)),
}


def paper(name: str) -> Recipe:
    """Return one of the paper's nine configurations: ViT-Base, decoder 384 x 4 blocks, 1-D position table, mask ratio
    0.75.
    """
    frames, patch_size = TABLE_1[name]
    model = ModelConfig(size="base", frames=frames, patch_size=patch_size, decoder_positions="1d")
    numbers = "paper, table 1, and reference code"
    return Recipe(
        name=name,
        paper=PAPER,
        hyperparameter_source=numbers,
        model=model,
        training=PAPER_TRAINING,
        data=DataConfig(crops="one"),
    )


def recipe() -> Recipe:
    """Return the default: 208 frames, 16x16 patches, size small, 2-D positions in the decoder, a budget of steps.

    Size small, batch 128, learning rate 1e-3 and clipping at 3 are our choice for one machine and hours, not thousands
    of hours, of audio.
    """
    training = replace(PAPER_TRAINING, epochs=None, batch_size=128, learning_rate=1e-3, warmup=0.07, clip_norm=3.0)
    numbers = "paper; size, batch, learning rate and clipping are our choice"
    return Recipe(
        name="msm-mae", paper=PAPER, hyperparameter_source=numbers, model=ModelConfig(size="small"), training=training
    )
