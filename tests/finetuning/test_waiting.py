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
from unheard.finetuning.loader import LabelledLoader
from unheard.finetuning.named_recipes import FINETUNE_RECIPES, find_finetune_recipe
from unheard.finetuning.network import FinetuneSetup, begin
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.session import open_table
from unheard.finetuning.trainer import FinetuneTrainer
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.callbacks import Callbacks
from unheard.training.engine import Engine
from unheard.weights.checkpoint import Provenance, SavedModel

SIZES = ("frames=64", "embed_dim=24", "depth=2", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
BASE = override(find_recipe("msm-mae"), [*(f"model.{size}" for size in SIZES), "model.decoder_num_heads=2"])
STEPS = 9
SHORT = [
    *("training.epochs=null", f"training.steps={STEPS}", "training.batch_size=8", "training.accumulate=2"),
    *("training.clip_norm=1", "task.epoch_clips=null", "task.validation_fraction=0"),
]
CASES: list[tuple[str, list[str]]] = [
    *((name, []) for name in FINETUNE_RECIPES),
    ("small", ["adapt.weight_averaging=ema", "task.norm=batch"]),
    ("small", ["adapt.weight_averaging=swa", "adapt.average_from=0.1", "augment.noise=0.1"]),
]
TABLES = {"clips": "path,label,split", "spans": "path,label,split,start,end"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of sounds of four lengths, so that a batch has clips with different numbers of patches."""
    place, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    rows: dict[str, list[str]] = {kind: [header] for kind, header in TABLES.items()}
    for number in range(16):
        length = (3000, 4500, 6000, 16000)[number % 4]
        soundfile.write(place / f"{number}.wav", rng.normal(0, 0.1, length), 16000)
        rows["clips"].append(f"{number}.wav,{'abc'[number % 3]},train")
        rows["spans"].append(f"{number}.wav,{'abc'[number % 3]},train,0.05,{(length - 500) / 16000}")
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
    trainer.tuned.to(engine.device)  # to "meta" before the optimiser is built, which would keep the old parameters
    trainer.prepare(None)
    return trainer


@pytest.fixture
def no_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the effect that the CPU computes: it reads the waveforms in the thread of the loader."""
    monkeypatch.setattr("unheard.finetuning.waveform_augment.change_speed", lambda clips, factor: clips)


def train(trainer: FinetuneTrainer, loader: LabelledLoader, steps: range) -> None:
    for step in steps:
        clips = loader.batch(step).clips
        assert clips.device == trainer.engine.device and len(clips.lengths.unique()) > 1
        loss = trainer.take_step(step, {0: clips})
        assert loss is not None and loss.device == trainer.engine.device


@pytest.mark.usefixtures("no_resampling")
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("name", "extra"), CASES)
def test_a_batch_and_its_step_read_nothing_and_copy_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: list[str], kind: str
) -> None:
    recipe = short(name, extra)
    trainer = trainer_of(folder, kind, recipe, meta_engine(recipe.training, monkeypatch))
    loader = trainer.loader(range(STEPS), 0, 1)
    loader.batch(0)  # moves the front end to the device
    with no_waiting_on_meta():
        train(trainer, loader, range(1, 2))  # it ends an epoch, after which weights may be averaged
    assert all(value.device == META for value in trainer.tuned.state_dict().values())
    assert len(trainer.engine.optimiser.state) > 10  # the step was taken


@pytest.mark.gpu
@pytest.mark.usefixtures("no_resampling")
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("name", "extra"), CASES)
def test_a_batch_and_its_step_do_not_wait_for_a_gpu(folder: Path, name: str, extra: list[str], kind: str) -> None:
    recipe = short(name, extra)
    trainer = trainer_of(folder, kind, recipe, Engine(recipe.training, "cuda"))
    loader = trainer.loader(range(STEPS), 0, 1)
    train(trainer, loader, range(2))  # libraries and the state of the optimiser are set up
    with no_waiting_on_gpu():
        train(trainer, loader, range(2, 4))


def test_processes_agree_on_a_stop_in_logged_steps_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = short("audiomae-scv2", ["training.log_every=3"])
    trainer = trainer_of(folder, "clips", recipe, Engine(recipe.training, "cpu"))
    asked: list[bool] = []
    monkeypatch.setattr(
        "unheard.finetuning.trainer.common_stop", lambda engine, stop, logged: asked.append(logged) or stop
    )
    trainer.run(Callbacks())
    logged = {2, 3, 4, 6, 8}  # every third step, and the ends of epochs of 16 clips; the last step ends in any case
    assert asked == [step in logged for step in range(1, STEPS)]
