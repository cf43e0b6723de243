"""Runs of the recipes with several views: they resume exactly, noise tokens included, and report views."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.config import override
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.checkpoint import load_model

SETTINGS = [
    *(f"model.{size}" for size in ("frames=64", "embed_dim=24", "depth=2", "num_heads=2")),
    *(f"model.{size}" for size in ("decoder_embed_dim=24", "decoder_depth=1", "decoder_num_heads=2")),
    *(f"training.{value}" for value in ("batch_size=4", "steps=6", "log_every=1", "checkpoint_every=3", "seed=5")),
    *("mask.views=3", "mask.block=2"),
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(6):
        wave = (0.1 * generator.standard_normal(9000 + 2000 * index)).astype(np.float32)
        soundfile.write(folder / f"{index}.wav", wave, 16000)
    return folder


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def command(name: str, sounds: Path, run: Path, *settings: str) -> list[str]:
    """The arguments of `unheard pretrain` for a small run of a recipe."""
    options = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["-m", "unheard", "pretrain", str(sounds), "-o", str(run), "--recipe", name, "--device", "cpu", *options]


@pytest.mark.parametrize("name", ["eat", "sslam", "bat"])
def test_a_resumed_run_equals_the_uninterrupted_one(name: str, sounds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(sounds, run, override(find_recipe(name), SETTINGS), device="cpu")
    whole, last = (run / "metrics.jsonl").read_text(), load_model(run).learner.export_state_dict()
    shutil.rmtree(checkpoints(run)[-1])
    (run / "finished.json").unlink(missing_ok=True)
    assert resume(run, device="cpu").finished
    rows = [rows_of(text) for text in (whole, (run / "metrics.jsonl").read_text())]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    again = load_model(run).learner.export_state_dict()
    assert all(torch.equal(value, again[key]) for key, value in last.items())
    assert rows[0][-1]["views_per_second"] == pytest.approx(3 * rows[0][-1]["clips_per_second"])
    assert {"loss/latents", "loss/utterance", "diagnostics/teacher_momentum"} <= rows[0][0].keys()
    found = unheard.load(str(run)).embed(sounds / "0.wav")
    assert found.scene.shape == (24 * 8,) and np.isfinite(found.scene).all()


def test_kill_9_loses_nothing_before_the_last_checkpoint(sounds: Path, tmp_path: Path) -> None:
    """EAT's decoder fills hidden patches with noise, which a resumed run computes again."""
    more = ["training.steps=40", "training.checkpoint_every=5"]
    pretrain(sounds, tmp_path / "whole", override(find_recipe("eat"), [*SETTINGS, *more]), device="cpu")
    run = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, *command("eat", sounds, run, *more)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not checkpoints(run) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and checkpoints(run)
    assert resume(run, device="cpu").finished
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("killed", "whole")]
    found, expected = ([row["loss"] for row in rows_of(text)] for text in texts)
    assert len(expected) == 40 and found == expected
    ours, theirs = (load_model(tmp_path / name).learner.export_state_dict() for name in ("killed", "whole"))
    assert all(torch.equal(value, ours[key]) for key, value in theirs.items())


@pytest.mark.parametrize("name", ["eat", pytest.param("sslam", marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_does(name: str, sounds: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = [*start, "--standalone", *command(name, sounds, tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    pretrain(sounds, tmp_path / "one", override(find_recipe(name), SETTINGS), device="cpu")
    found, expected = (rows_of((tmp_path / run / "metrics.jsonl").read_text()) for run in ("two", "one"))
    for row, alone in zip(found, expected, strict=True):
        assert all(row[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-6) for key in alone if key.startswith("loss"))
