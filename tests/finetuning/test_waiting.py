"""A fine-tuning step that is not logged queues work for the device, and never waits for it; as in pre-training.

The batch of the step is prepared on the device, too. Tables of whole clips and of spans (columns start and end) differ
in the lengths of the clips.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.training.waiting import META, meta_engine, no_waiting_on_meta

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.data.open_store import Cache
from unheard.finetuning.clips import open_sounds
from unheard.finetuning.named_recipes import FINETUNE_RECIPES, find_finetune_recipe
from unheard.finetuning.network import FinetuneSetup, begin
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.session import open_table
from unheard.finetuning.trainer import FinetuneTrainer
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.engine import Engine
from unheard.weights.checkpoint import Provenance, SavedModel

SIZES = ("frames=64", "embed_dim=24", "depth=2", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
BASE = override(find_recipe("msm-mae"), [*(f"model.{size}" for size in SIZES), "model.decoder_num_heads=2"])
SHORT = [
    *("training.epochs=null", "training.steps=9", "training.batch_size=8", "training.accumulate=2"),
    *("training.clip_norm=1", "task.epoch_clips=null", "task.validation_fraction=0"),
]
NAMED: list[tuple[str, list[str]]] = [(name, []) for name in FINETUNE_RECIPES]
SETTINGS = [
    ("small", ["adapt.weight_averaging=ema", "task.norm=batch"]),
    ("small", ["adapt.weight_averaging=swa", "adapt.average_from=0.1", "augment.noise=0.1"]),
]
TABLES = {"clips": "path,label", "spans": "path,label,start,end"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of sounds of four lengths, so that a batch has clips with different numbers of patches."""
    place, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    rows: dict[str, list[str]] = {kind: [header] for kind, header in TABLES.items()}
    for number in range(16):
        length = (3000, 6000, 10240, 16000)[number % 4]
        soundfile.write(place / f"{number}.wav", rng.normal(0, 0.1, length), 16000)
        rows["clips"].append(f"{number}.wav,{'abc'[number % 3]}")
        rows["spans"].append(f"{number}.wav,{'abc'[number % 3]},0.05,{(length - 500) / 16000}")
    for kind, lines in rows.items():
        (place / f"{kind}.csv").write_text("\n".join(lines) + "\n")
    return place


def short(name: str, extra: list[str]) -> FinetuneRecipe:
    return override(find_finetune_recipe(name), [*SHORT, *extra])


def trainer_of(folder: Path, kind: str, recipe: FinetuneRecipe, engine: Engine) -> FinetuneTrainer:
    """Return a trainer that is ready for its first step."""
    table = open_table(folder / f"{kind}.csv", recipe)
    sounds = open_sounds(table.labels, BASE.frontend, "mix", Cache(folder / f"packed-{kind}"))
    activation = "sigmoid" if recipe.task.loss == "bce" else "softmax"
    start = FinetuneSetup(recipe, tuple(table.labels.classes), activation, "here")
    saved = begin(SavedModel(build(BASE), BASE, Statistics((-7.0,), (4.0,)), Provenance()), start)
    trainer = FinetuneTrainer(folder / "run", saved, start, sounds, table.parts[0], engine)
    trainer.prepare(None)
    return trainer


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("name", "extra"), [*NAMED, *SETTINGS])
def test_a_step_reads_nothing_and_copies_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: list[str], kind: str
) -> None:
    recipe = short(name, extra)
    trainer = trainer_of(folder, kind, recipe, meta_engine(recipe.training, monkeypatch))
    loader = trainer.loader(range(3), 0, 1)
    batches = [loader.batch(step) for step in range(3)]
    with no_waiting_on_meta():
        for step, batch in enumerate(batches):
            loss = trainer.take_step(step, {0: batch.clips})
            assert loss is not None and loss.device == META
