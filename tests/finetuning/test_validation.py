"""Validation during fine-tuning: the logits of prediction, shared out among processes, in the order of the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.data.open_store import Cache
from unheard.embedding.classify import logits_many
from unheard.embedding.embedder import Model
from unheard.errors import DataError
from unheard.files import read_json_lines
from unheard.finetuning.clips import open_sounds
from unheard.finetuning.network import FinetuneSetup, begin
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.run import finetune
from unheard.finetuning.session import open_table
from unheard.finetuning.trainer import FinetuneTrainer
from unheard.finetuning.validation import Validation, groups_of
from unheard.model import classifier
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.engine import Engine
from unheard.weights.checkpoint import Provenance, SavedModel, load_model, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
STILL = override(
    FinetuneRecipe(),
    [
        "training.batch_size=4",
        "training.steps=4",
        "training.learning_rate=0",
        "training.log_every=1",
        "augment.gain_db=[-3,3]",
    ],
)
LENGTHS = (4000, 1, 160_000, 10, 5200, 12_345, 700, 5119)
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import test_validation as test
test.record(Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and 48 clips, shorter and longer than its window, of which every third trains."""
    place, rng = tmp_path_factory.mktemp("lengths"), np.random.default_rng(0)
    rows = ["path,label,split"]
    for number in range(48):
        sound = rng.normal(0, 0.1, LENGTHS[number % len(LENGTHS)]) * np.sin(
            0.01 * (number + 1) * np.arange(LENGTHS[number % len(LENGTHS)])
        )
        soundfile.write(place / f"{number}.wav", sound, 16000)
        rows.append(f"{number}.wav,{'abc'[number % 5 % 3]},{'valid' if number % 3 else 'train'}")
    (place / "labels.csv").write_text("\n".join(rows) + "\n")
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    return place


def record(folder: Path, out: Path) -> None:
    """Fine-tune with weights that stay as they are, and store the logits of every validation by process."""
    plain = Validation.logits

    def logits(self: Validation, network: object) -> np.ndarray:
        found = plain(self, network)  # type: ignore[arg-type]
        np.save(out.parent / f"{out.name}-{self.engine.rank}.npy", found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "logits", logits)
        patch.setattr(classifier, "HEAD_STD", 1.0)  # or all logits would be next to 0
        finetune(folder / "model", folder / "labels.csv", out, STILL, device="cpu")


def member(folder: Path, *settings: str) -> FinetuneTrainer:
    recipe = override(STILL, list(settings))
    saved, start = load_model(folder / "model"), FinetuneSetup(recipe, ("a", "b", "c"), "softmax", "here")
    table = open_table(folder / "labels.csv", recipe)
    sounds = open_sounds(table.labels, saved.recipe.frontend, "mix", Cache(folder / "corpus"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "HEAD_STD", 1.0)
        return FinetuneTrainer(
            folder / "run", begin(saved, start), start, sounds, table.parts[0], Engine(recipe.training, "cpu")
        )


@pytest.mark.parametrize("pool", ["mean", "bands", "cls"])
def test_the_logits_are_those_of_prediction(folder: Path, pool: str) -> None:
    one = member(folder, f"task.pool={pool}")
    found = one.logits()
    store = one.sounds.store
    saved = SavedModel(one.saved.learner, one.saved.recipe, one.saved.statistics, Provenance(), one.saved.classifier)
    one.tuned.eval()
    waves = [(store.samples(clip), store.sample_rate) for clip in one.valid.tolist()]
    assert np.allclose(found, [logits for _, logits in logits_many(Model(saved), waves)], atol=1e-5)
    assert len(found) == 32 and found.std() > 0.1 and len(np.unique(found.round(2), axis=0)) > 16


def test_the_model_is_in_training_again_afterwards(folder: Path) -> None:
    one = member(folder)
    one.tuned.train()
    one.logits()
    assert one.tuned.network.training and one.tuned.network.encoder.training


def test_logits_that_are_not_finite_name_a_file(folder: Path) -> None:
    one = member(folder)
    one.tuned.network.classifier.head.bias.data[0] = np.nan
    with pytest.raises(
        DataError, match=r"32 of 32 validation clips are not finite, the first of .*\.wav.*training\.learning_rate"
    ):
        one.logits()


def test_two_processes_find_what_one_does_in_the_order_of_the_table(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
    ]
    command = [*start, str(tmp_path / "program.py"), __file__, str(folder), str(tmp_path / "two")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    record(folder, tmp_path / "one")
    one, first, second = (np.load(tmp_path / f"{name}.npy") for name in ("one-0", "two-0", "two-1"))
    assert np.array_equal(first, second) and np.allclose(one, first, rtol=0, atol=1e-6) and one.std() > 0.1
    rows = [read_json_lines(tmp_path / name / "metrics.jsonl")[0] for name in ("one", "two")]
    ours, theirs = ([[value for name, value in row.items() if "valid/" in name] for row in found] for found in rows)
    assert [len(row) for row in ours] == [len(row) for row in theirs] and sum(map(len, ours)) >= 3
    for row, other in zip(ours, theirs, strict=True):
        assert np.allclose(row, other, rtol=0, atol=1e-6)


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 90), st.integers(1, 12))
def test_groups_hold_every_clip_once_and_few_windows(frames: list[int], width: int, size: int) -> None:
    lengths = np.array(frames, np.int64)
    groups = groups_of(lengths, width, size)
    assert sorted(place for group in groups for place in group.tolist()) == list(range(len(frames)))
    assert all(len(group) == 1 or (-(-lengths[group] // width)).sum() <= size for group in groups)
