"""A folder of tones with labels, and runs that were fine-tuned on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
QUICK = ["training.batch_size=8", "training.learning_rate=5e-3", "training.log_every=20", "augment.spec_mixup_prob=0"]
TONES = (0.1, 0.4, 1.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("scored"), np.random.default_rng(1)
    for number in range(30):
        time = np.arange(4000 + 2000 * (number % 4))
        soundfile.write(
            place / f"{number}.wav",
            0.2 * np.sin(time * TONES[number % 3]) + 0.01 * rng.standard_normal(len(time)),
            16000,
        )
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    table(place / "labels.csv", [(i, "abc"[i % 3]) for i in range(18)])
    table(place / "folds.csv", [(i, "abc"[i % 3], str(i // 3 % 2)) for i in range(18)], "path,label,fold")
    table(place / "fresh.csv", [(i, "ca"[i % 3 == 0]) for i in range(18, 30) if i % 3 != 1])
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    settings = [*QUICK, "training.steps=40", "task.validation_fraction=0"]
    return unheard.finetune(
        folder / "model", folder / "labels.csv", folder / "run", settings=settings, device="cpu"
    ).folder


@pytest.fixture(scope="module")
def folds(folder: Path) -> Path:
    settings = [*QUICK, "training.steps=4"]
    return unheard.finetune(
        folder / "model", folder / "folds.csv", folder / "folds", settings=settings, device="cpu"
    ).folder


def table(file: Path, rows: list[tuple[object, ...]], header: str = "path,label") -> Path:
    file.write_text("\n".join([header, *(",".join([f"{row[0]}.wav", *map(str, row[1:])]) for row in rows)]) + "\n")
    return file
