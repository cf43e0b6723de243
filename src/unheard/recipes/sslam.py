"""SSLAM: EAT's second stage, on windows and on partial mixtures of them.

"SSLAM: Enhancing Self-Supervised Models with Audio Mixtures for Polyphonic Soundscapes". Read, not run against the
reference. Front end, model, masks and teacher are those of EAT (`unheard.recipes.eat`).

    a: window, b: the window before it in the batch, R: two regions of 15 columns each, of 64
    mixture = a in R, max(a, b) elsewhere                   the student encodes a and the mixture, with the same masks
    r_n = ( y(a)_n + y(b without R)_n ) / 2 outside of R,   y(a)_n in R
    L = sqrt(D) ( mean over both of (p - y)^2 + mean over mixtures of (p - r)^2 + 192 mean over both of (c - u)^2 )

y: EAT's target, of a window or of a mixture. u: mean over the patches of a target that has one layer, the last one.
p, c: prediction of a hidden patch, CLS output. The published run begins with the weights of EAT after 10 epochs
(``--init``).

The numbers are those of the reference code, stored as fractions of the run: 200 000 steps of 48 clips, learning rate
5e-5, warm-up of 25 000 steps, 8 masks of each window. 192 is 12 clips a GPU, twice, times 8 masks.

Different from the publication, in addition to the list of EAT:

- A batch has the windows of all processes in a row, so b may be a window of another process. In the reference it is of
  the same GPU; the regions are drawn for each GPU there, and for the whole batch here.
- Padding takes no part in mixtures: where one of the windows is padding, the mixture is the other one.
- Windows of another length than 1024 frames have regions of the same fraction.
- The teacher begins as a copy of the initial student.
"""

from __future__ import annotations

import math
from dataclasses import replace

from unheard.objectives.retention import RetentionConfig
from unheard.recipes import eat
from unheard.recipes.recipe import DataConfig, Recipe

PAPER = "SSLAM, reference code ta012/SSLAM"
NUMBERS = "reference code, read and not run; statistics, padding and sizes below base ours"
STEPS = 200_000
INITIAL_WEIGHT = math.exp(-11.5)
"""Weight of the teacher's initial weights at the end of the published schedule."""


def recipe() -> Recipe:
    """Return stage 2 of SSLAM base: EAT base with mixtures and source retention, 8 views of each."""
    base = eat.recipe()
    return replace(
        base,
        name="sslam",
        paper=PAPER,
        hyperparameter_source=NUMBERS,
        mask=replace(base.mask, views=8),
        objectives=base.objectives.updated(RetentionConfig(weight=eat.ROOT)),
        teacher=replace(base.teacher, anneal=100_000 / STEPS, max_initial_weight=INITIAL_WEIGHT, utterance_layers=1),
        training=replace(base.training, epochs=5.0, learning_rate=5e-5, warmup=25_000 / STEPS),
        data=DataConfig(crops="one", mixtures=True),
    )
