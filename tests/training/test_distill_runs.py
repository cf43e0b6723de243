"""Runs that learn from stored targets: resumed, in two processes, of spectrograms, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.teachers.local_teacher import LocalTeacher, use, write_sounds

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli.main import main
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.teachers.storing import TargetsConfig, store_targets
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.checkpoint import load_model
from unheard.weights.tensors import read_tensors

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
LENGTH = ("batch_size=8", "steps=6", "log_every=1", "checkpoint_every=2", "epochs=null", "learning_rate=0.001")
SETTINGS = [*(f"model.{size}" for size in SIZES), *(f"training.{length}" for length in LENGTH)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, packed as spectrograms and as waves, and the targets of two teachers."""
    folder = tmp_path_factory.mktemp("place")
    corpus = open_corpus(write_sounds(folder / "sounds", (12.4, 0.3, 2.0, 1.1, 0.7)))
    pack(corpus, MSM_MAE_16K, folder / "spec")
    pack(corpus, PackConfig(MSM_MAE_16K, "int16"), folder / "wav")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, LocalTeacher(), LocalTeacher(dim=7, hop=4000))
        store_targets(folder / "wav", TargetsConfig("0"), folder / "fine")
        store_targets(folder / "wav", TargetsConfig("1", pca=3), folder / "coarse")
    return folder


def teachers(place: Path) -> str:
    coarse = {"name": str(place / "coarse"), "weight": 0.5, "layers": [1, 2], "distance": "mse"}
    return f"objectives.distill.teachers={json.dumps([{'name': str(place / 'fine')}, coarse])}"


def recipe(*settings: str) -> Recipe:
    return override(find_recipe("distill"), [*SETTINGS, *settings])


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_is_the_uninterrupted_one(place: Path, tmp_path: Path) -> None:
    pretrain(place / "spec", tmp_path / "whole", recipe(teachers(place)), device="cpu")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(checkpoints(tmp_path / "broken")[-1])
    resume(tmp_path / "broken", device="cpu")
    ours, theirs = (
        read_tensors(checkpoints(tmp_path / run)[-1] / "learner.safetensors") for run in ("broken", "whole")
    )
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert {"loss/distill", "loss/reconstruct"} <= rows(tmp_path / "whole")[0].keys()
    fine, coarse = load_model(tmp_path / "whole").recipe.objectives.distill.teachers
    assert (fine.dim, fine.pca, fine.standardise) == (5, None, "stored") and (coarse.dim, coarse.pca) == (3, 3)
    assert Path(fine.name).is_absolute()


def test_two_processes_learn_what_one_does(place: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    settings = [part for setting in [*SETTINGS, teachers(place)] for part in ("--set", setting)]
    options = [str(place / "spec"), "-o", str(tmp_path / "two"), "--recipe", "distill", "--device", "cpu", *settings]
    command, environment = [*start, "--standalone", "-m", "unheard", "pretrain"], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    pretrain(place / "spec", tmp_path / "one", recipe(teachers(place)), device="cpu")
    for two, alone in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert all(two[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-6) for key in alone if key.startswith("loss"))


def test_stored_and_computed_targets_train_the_same_student(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher sees the hops under each column only; the windows end within the clips of twelve seconds."""
    use(monkeypatch, LocalTeacher())
    long = pack(
        open_corpus(write_sounds(tmp_path / "sounds", (12.4,))), PackConfig(MSM_MAE_16K, "int16"), tmp_path / "wav"
    )
    store_targets(tmp_path / "wav", TargetsConfig("0"), tmp_path / "t")
    shared = ["objectives.distill.teachers.0.standardise=running", "data.input=wav"]
    for name, teacher in (("stored", str(tmp_path / "t")), ("computed", "0")):
        settings = [f'objectives.distill.teachers=[{{"name": "{teacher}"}}]', *shared]
        pretrain(tmp_path / "wav", tmp_path / name, recipe(*settings), device="cpu")
    assert int(long.frames.min()) > 48
    for ours, theirs in zip(rows(tmp_path / "stored"), rows(tmp_path / "computed"), strict=True):
        assert ours["loss/distill"] == pytest.approx(theirs["loss/distill"], rel=2e-3)


def test_a_run_needs_a_teacher_and_the_targets_of_its_corpus(place: Path, tmp_path: Path) -> None:
    other = write_sounds(tmp_path / "other", (3.0,))
    for source, settings, error, words in (
        (place / "spec", [], CheckpointError, r"objectives\.distill\.teachers\.0\.name"),
        (place / "spec", ["objectives.distill.teachers=[]"], ConfigError, "has no teacher"),
        (place / "spec", ["objectives.distill.teachers.0.name=random-tiny"], ConfigError, r"data\.input=wav"),
        (place / "spec", [teachers(place), "data.short_clips=join"], ConfigError, r"data\.short_clips=pad"),
        (other, [teachers(place)], DataError, "targets of another corpus"),
    ):
        with pytest.raises(error, match=words):
            pretrain(source, tmp_path / "run", recipe(*settings), device="cpu")


def test_targets_that_changed_or_are_damaged_end_a_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "fine", tmp_path / "t")
    named = recipe(f"objectives.distill.teachers.0.name={tmp_path / 't'}")
    shard = tmp_path / "t" / "shard-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DataError, match=r"shard-00000\.bin differ from their checksums"):
        pretrain(place / "spec", tmp_path / "run", named, device="cpu")
    shard.write_bytes(content)
    pretrain(place / "spec", tmp_path / "good", named, device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "good")[-1])
    shutil.rmtree(tmp_path / "t")
    shutil.copytree(place / "coarse", tmp_path / "t")
    with pytest.raises(DataError, match="its stored targets, changed"):
        resume(tmp_path / "good", device="cpu")


def test_the_command_stores_targets_that_a_run_reads(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "targets"
    command = ["data", "targets", str(place / "wav"), "--teacher", "random-tiny", "-o", str(out), "--device", "cpu"]
    assert main([*command, "--pca", "8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["clips"], printed["dim"]) == (5, 8) and printed["rows"] == 5
    options = [part for each in [*SETTINGS, f"objectives.distill.teachers.0.name={out}"] for part in ("--set", each)]
    run = ["pretrain", str(place / "spec"), "-o", str(tmp_path / "run"), "--recipe", "distill", "--device", "cpu"]
    assert main([*run, *options]) == 0 and "targets    feature distillation from random-tiny" in capsys.readouterr().err
    assert main(["data", "verify", str(out), str(tmp_path / "run")]) == 0
    assert main([*command, "--pca", "9"]) == 2 and "another --pca" in capsys.readouterr().err
