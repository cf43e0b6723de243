"""Pre-training continued from a model: its recipe, window and statistics, and runs of a given duration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import unheard
from unheard.cli import main
from unheard.errors import CheckpointError, ConfigError
from unheard.weights.built_in import open_model


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of a finished run out: they take longer than the runs of these tests."""
    monkeypatch.setattr("unheard.view.run.finish", lambda *_: None)


def test_init_continues_with_recipe_window_and_statistics_of_the_model(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    given = ["pretrain", str(stand_in / "sounds"), "-o", str(run), "--init", "unheard-tiny"]
    assert main([*given, "--steps", "2", "--batch-size", "4", "--set", "training.learning_rate=0"]) == 0
    assert "recipe     that of unheard-tiny, without distill" in capsys.readouterr().err
    before, after = open_model("unheard-tiny"), open_model(run)
    assert after.statistics == before.statistics and after.recipe.model == before.recipe.model
    assert list(after.recipe.objectives.active()) == ["reconstruct"]
    ours, theirs = after.learner.model.state_dict(), before.learner.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert json.loads((run / "config.json").read_text())["init"] == "unheard-tiny"


def test_another_window_is_possible_and_another_front_end_or_patch_is_one_error(stand_in: Path, tmp_path: Path) -> None:
    def start(*settings: str, recipe: str | None = None) -> None:
        steps = ["training.steps=1", "training.batch_size=4"]
        unheard.pretrain(stand_in / "sounds", tmp_path / "run", recipe, [*steps, *settings], init="unheard-tiny")

    start("model.frames=96")
    with pytest.raises(CheckpointError, match=r"frontend\.n_mels is 80, that of the recipe 64.*omit --recipe"):
        start("frontend.n_mels=64")
    with pytest.raises(CheckpointError, match=r"model\.patch_size is \[16, 16\], that of the recipe \[16, 8\]"):
        start("model.patch_size=16x8")
    with pytest.raises(CheckpointError, match=r"model\.embed_dim is 24, that of the recipe 384"):
        start(recipe="msm-mae")


def test_statistics_of_a_model_need_one(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the model of --init"):
        unheard.pretrain(stand_in / "sounds", tmp_path / "run", settings=["data.statistics=model", "model.size=tiny"])


def test_minutes_determine_the_steps_from_the_measured_speed(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unheard.training.engine.Engine.benchmark_step", lambda self, batch: 5.0)
    run = tmp_path / "run"
    given = ["pretrain", str(stand_in / "sounds"), "-o", str(run), "--init", "unheard-tiny", "--batch-size", "4"]
    assert main([*given, "--minutes", "0.3"]) == 0
    stored = json.loads((run / "config.json").read_text())
    assert (stored["total"], stored["minutes"]) == (3, 0.3)  # 18 s of steps of 5 s and a fifth
    assert main([*given[:3], str(tmp_path / "b"), "--minutes", "1", "--steps", "3"]) == 2
    assert main([*given[:3], str(tmp_path / "c"), "--minutes", "-1"]) == 2
    with pytest.raises(ConfigError, match="minutes excludes training.steps"):
        unheard.pretrain(given[1], tmp_path / "d", settings=["training.steps=3"], minutes=1)


def test_settings_of_an_objective_that_is_not_trained_are_refused(tmp_path: Path) -> None:
    """They would change nothing: as with ``init``, which leaves an objective with teachers out."""
    with pytest.raises(ConfigError, match=r"distill\.teachers=\[\] changes nothing"):
        unheard.pretrain(tmp_path, tmp_path / "run", settings=["objectives.distill.teachers=[]"], init="unheard-tiny")
    with pytest.raises(ConfigError, match=r"latents\.distance=.* changes nothing.*set objectives\.latents\.weight=1"):
        unheard.pretrain(tmp_path, tmp_path / "run", settings=["objectives.latents.distance=mse"])
