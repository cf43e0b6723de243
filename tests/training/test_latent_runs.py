"""Runs with teachers: what they write of themselves, and that nothing of them is lost on the way or differs between
processes.
"""

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
from torch import Tensor

from unheard.config import override
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import Origin, pretrain
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
HEAD = [f"objectives.prototypes.{size}" for size in ("prototypes=12", "hidden_dim=16", "bottleneck_dim=8")]
LENGTH = [
    f"training.{length}"
    for length in ("batch_size=8", "steps=8", "log_every=1", "checkpoint_every=3", "seed=5", "epochs=null")
]
SETTINGS = [*(f"model.{size}" for size in SIZES), *HEAD, *LENGTH]


def recipe(name: str = "matpac++", extra: tuple[str, ...] = ()) -> Recipe:
    return override(find_recipe(name), [*SETTINGS, *extra])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, most of them shorter than the window, so that processes see unequal padding."""
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(12):
        length = (16000, 3000, 6500)[index % 3]
        tone = np.sin(np.arange(length) * (0.05 + 0.03 * index)) * 0.3 + 0.01 * generator.standard_normal(length)
        soundfile.write(folder / f"{index:02d}.wav", tone.astype(np.float32), 16000)
    return folder


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def learner_state(run: Path) -> dict[str, Tensor]:
    return read_tensors(checkpoints(run)[-1] / "learner.safetensors")


@pytest.mark.parametrize(
    "extra", [(), ("teacher.update_at=after_step", "objectives.prototypes.center=logits", "training.accumulate=2")]
)
def test_a_resumed_run_has_the_same_teachers_heads_and_centre(
    extra: tuple[str, ...], sounds: Path, tmp_path: Path
) -> None:
    pretrain(sounds, tmp_path / "whole", recipe(extra=extra), device="cpu")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    for folder in checkpoints(tmp_path / "broken"):
        if not folder.name.endswith("6"):
            shutil.rmtree(folder)
    resume(tmp_path / "broken", device="cpu")
    ours, theirs = learner_state(tmp_path / "broken"), learner_state(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and bool(theirs["objectives.prototypes.center"].any())
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert [row["loss"] for row in rows(tmp_path / "broken")] == [row["loss"] for row in rows(tmp_path / "whole")]


def test_two_processes_have_the_centre_and_the_teachers_of_one(sounds: Path, tmp_path: Path) -> None:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
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
    command = [
        *start,
        "-m",
        "unheard",
        "pretrain",
        str(sounds),
        "-o",
        str(tmp_path / "two"),
        "--recipe",
        "matpac++",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [*command, *settings], capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    pretrain(sounds, tmp_path / "one", recipe(), device="cpu")
    ours, theirs = learner_state(tmp_path / "two"), learner_state(tmp_path / "one")
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    for two, one in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        for name in ("loss", "loss/prototypes", "diagnostics/prototype_perplexity", "diagnostics/active_prototypes"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), name


def test_the_journal_tells_how_the_teachers_are(sounds: Path, tmp_path: Path) -> None:
    pretrain(sounds, tmp_path / "run", recipe(), device="cpu")
    first, last = rows(tmp_path / "run")[0], rows(tmp_path / "run")[-1]
    names = {name.removeprefix("diagnostics/") for name in first if name.startswith("diagnostics/")}
    assert names == {
        "feature_std",
        "effective_rank",
        "between_clip_variance_fraction",
        "prediction_std",
        "hypothesis_perplexity",
        "prototype_perplexity",
        "active_prototypes",
        "effective_prototypes",
        "agreement",
        "teacher_momentum",
        "head_momentum",
        "teacher_temp",
        "wta_temperature",
    }
    assert first["diagnostics/teacher_temp"] == pytest.approx(0.04) and last[
        "diagnostics/teacher_temp"
    ] == pytest.approx(0.07)
    assert first["diagnostics/wta_temperature"] == pytest.approx(0.1) and last["diagnostics/wta_temperature"] < 1e-4
    assert 1 <= last["diagnostics/hypothesis_perplexity"] <= 5 and 1 <= last["diagnostics/active_prototypes"] <= 12
    pretrain(sounds, tmp_path / "m2d", recipe("m2d"), device="cpu")
    assert {name for name in rows(tmp_path / "m2d")[0] if name.startswith("diagnostics/")} == {
        f"diagnostics/{name}"
        for name in (
            "feature_std",
            "effective_rank",
            "between_clip_variance_fraction",
            "prediction_std",
            "teacher_momentum",
        )
    }


def test_measuring_the_speed_of_a_step_leaves_no_trace(sounds: Path, tmp_path: Path) -> None:
    """Two runs of one step, one of them resumed and so measured twice, agree in the centre."""
    pretrain(sounds, tmp_path / "run", recipe(extra=("training.steps=1",)), device="cpu")
    state = learner_state(tmp_path / "run")
    assert state["objectives.prototypes.center"].sum().item() == pytest.approx(
        0.1, rel=1e-4
    )  # a tenth of one mean of probabilities
    assert not state["objectives.prototypes.pending"].any()


def test_the_model_folder_holds_the_predictor_but_no_teacher(sounds: Path, tmp_path: Path) -> None:
    pretrain(sounds, tmp_path / "run", recipe(extra=("training.steps=2",)), device="cpu")
    kept = read_tensors(tmp_path / "run/model/model.safetensors")
    assert not [name for name in kept if "teacher" in name or "prototypes" in name]
    assert load_model(tmp_path / "run").recipe.model.num_hypotheses == 5
    again = recipe(extra=("training.steps=1", "training.learning_rate=0"))
    pretrain(sounds, tmp_path / "next", again, origin=Origin(tmp_path / "run"), device="cpu")
    for name, value in read_tensors(tmp_path / "next/model/model.safetensors").items():
        assert torch.equal(value, kept[name]), name
