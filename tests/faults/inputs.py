"""Small inputs for faults: sounds with labels, a model, and the settings of runs that take about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from unheard.config import override
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.built_in import RANDOM_STATISTICS
from unheard.weights.checkpoint import Provenance, save_model

SETTINGS = (
    "model.size=tiny",
    "model.frames=48",
    "model.embed_dim=24",
    "model.depth=2",
    "model.num_heads=1",
    "model.decoder_embed_dim=24",
    "model.decoder_depth=1",
    "model.decoder_num_heads=1",
    "training.precision=float32",
    "training.checkpoint_every=3",
    "training.log_every=1",
)


def make_sounds(folder: Path, count: int = 24) -> Path:
    """Write short tones of three kinds, with a table of labels in the same folder. Return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        kind, hertz = ("low", "mid", "high")[number % 3], (300, 1200, 4000)[number % 3]
        wav = 0.3 * np.sin(np.arange(8000) * 2 * np.pi * hertz / 16000) + 0.02 * rng.standard_normal(8000)
        soundfile.write(folder / f"{number:02d}.wav", wav, 16000)
        rows.append(f"{number:02d}.wav,{kind},{('train', 'train', 'valid', 'test')[number // 3 % 4]}\n")
    (folder / "labels.csv").write_text("path,label,split\n" + "".join(rows))
    return folder


def make_model(folder: Path) -> Path:
    """Write a small model of random weights. Return its folder."""
    recipe = override(find_recipe("msm-mae"), SETTINGS)
    save_model(folder, build(recipe, seed=0), recipe, RANDOM_STATISTICS, Provenance(source="random"))
    return folder


def flags() -> list[str]:
    """The settings as arguments of the command line."""
    return [each for setting in SETTINGS for each in ("--set", setting)]
