"""Split weights give the run of whole ones, and its checkpoints load into any number of processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.training.global_batch import RECIPES

from unheard.config import override
from unheard.errors import CheckpointError, ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.recipes.recipe import TrainingConfig
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine
from unheard.training.parallel.shard_files import read_whole
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.tensors import read_tensors

ROOT = Path(__file__).parent.parent.parent.parent
SIZES = ("frames=48", "embed_dim=24", "depth=2", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
SETTINGS = [
    *(f"model.{size}" for size in (*SIZES, "decoder_num_heads=2")),
    *("training.batch_size=6", "training.steps=6", "training.log_every=1", "training.checkpoint_every=3"),
    *("objectives.latents.weight=0.5", "objectives.prototypes.weight=0.5", "teacher.momentum_start=0.9"),
    *("training.shard=true", "training.activation_checkpointing=true", "training.clip_norm=1"),
]


def processes(count: int, *command: object) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone", "-m"]
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([*start, *map(str, command)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_two_steps_of_every_objective_are_those_of_whole_weights(count: int, tmp_path: Path) -> None:
    processes(count, "tests.training.parallel.sharded_steps", tmp_path / "found.json", *RECIPES)
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name.split("|")[0] for name in found} == RECIPES.keys()
    for name, each in found.items():
        assert each["held"] == pytest.approx(1 / count, abs=0.1), name
        assert max(each["0"], each["1"]) < 3e-6, (name, each)
        # Adam divides by small numbers, so rounding grows in its first steps
        assert each["state"] < 1e-4, (name, each)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(8):
        soundfile.write(folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(9000)).astype(np.float32), 16000)
    return folder


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 7))
    return [row["loss"] for row in rows]


@pytest.mark.slow
def test_a_sharded_run_is_that_of_one_process_and_resumes_on_three_and_on_one(sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("msm-mae"), SETTINGS)
    pretrain(sounds, tmp_path / "one", recipe, device="cpu")
    asked = [part for setting in SETTINGS for part in ("--set", setting)]
    processes(2, "unheard", "pretrain", sounds, "-o", tmp_path / "two", "--device", "cpu", *asked)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    names = sorted(path.name for path in checkpoints(tmp_path / "two")[-1].glob("*.safetensors"))
    assert names == [f"{kind}-0000{n}-of-00002.safetensors" for kind in ("learner", "optimiser") for n in (1, 2)]
    whole, parts = (read_tensors(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    assert whole.keys() == parts.keys()
    ours, theirs = (torch.cat([each[name].flatten() for name in sorted(whole)]) for each in (parts, whole))
    # Adam divides by small numbers, so rounding grows in its first steps
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4

    shutil.rmtree(checkpoints(tmp_path / "two")[-1])
    shutil.copytree(tmp_path / "two", tmp_path / "alone")
    assert resume(tmp_path / "alone", device="cpu").finished
    processes(3, "unheard", "pretrain", "--resume", tmp_path / "two", "--device", "cpu")
    for run in ("alone", "two"):
        assert losses(tmp_path / run) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("shard", ["true", "false"])
def test_a_run_on_two_gpus_is_that_of_the_cpu(shard: str, sounds: Path, tmp_path: Path) -> None:
    changed = [*SETTINGS, f"training.shard={shard}", "training.precision=float32", "training.compile=false"]
    pretrain(sounds, tmp_path / "one", override(find_recipe("msm-mae"), changed), device="cpu")
    asked = [part for setting in changed for part in ("--set", setting)]
    processes(2, "unheard", "pretrain", sounds, "-o", tmp_path / "two", "--device", "cuda", *asked)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


def test_parts_of_a_checkpoint_are_joined_and_missing_ones_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from unheard.files import file_checksums

    whole = {"split": torch.arange(10.0).reshape(5, 2), "number": torch.tensor(3.0)}
    parts = whole["split"].chunk(3)
    for rank in range(3):
        tensors = {"split": parts[rank].clone()} | ({"number": whole["number"]} if rank == 0 else {})
        save_file(tensors, tmp_path / f"learner-0000{rank + 1}-of-00003.safetensors")
    checksums = file_checksums(tmp_path, [path.name for path in tmp_path.iterdir()])
    found = read_whole(tmp_path / "learner.safetensors", checksums)
    assert all(torch.equal(found[name], value) for name, value in whole.items()) and found.keys() == whole.keys()
    (tmp_path / "learner-00002-of-00003.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="00002-of-00003"):
        read_whole(tmp_path / "learner.safetensors", checksums)
    del checksums["learner-00003-of-00003.safetensors"]
    with pytest.raises(CheckpointError, match="lacks learner files of some processes"):
        read_whole(tmp_path / "learner.safetensors", checksums)


def test_fine_tuning_refuses_to_shard() -> None:
    learner = build(override(find_recipe("msm-mae"), SETTINGS))
    engine = Engine(TrainingConfig(shard=True), "cpu")
    with pytest.raises(ConfigError, match="for pre-training only"):
        engine.setup_module(learner.model.encoder, torch.optim.AdamW(learner.model.encoder.parameters()))
