"""Runs of the recipes with several views: they resume exactly, noise tokens included, and report views."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.config import override
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain, resume
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


@pytest.mark.parametrize("name", ["eat", "bat"])
def test_a_resumed_run_equals_the_uninterrupted_one(name: str, sounds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(sounds, run, override(find_recipe(name), SETTINGS), device="cpu")
    whole, last = (run / "metrics.jsonl").read_text(), load_model(run).learner.export_state_dict()
    shutil.rmtree(checkpoints(run)[-1])
    (run / "finished.json").unlink(missing_ok=True)
    assert resume(run, device="cpu").finished
    rows = [[json.loads(line) for line in text.splitlines()] for text in (whole, (run / "metrics.jsonl").read_text())]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    again = load_model(run).learner.export_state_dict()
    assert all(torch.equal(value, again[key]) for key, value in last.items())
    assert rows[0][-1]["views_per_second"] == pytest.approx(3 * rows[0][-1]["clips_per_second"])
    assert {"loss/latents", "loss/utterance", "diagnostics/teacher_momentum"} <= rows[0][0].keys()
    found = unheard.load(str(run)).embed(sounds / "0.wav")
    assert found.scene.shape == (24 * 8,) and np.isfinite(found.scene).all()
