"""The comparison of recipes for unheard-tiny: a second call trains nothing again; differences are paired."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.tiny import choose, curve

from unheard.cli import main
from unheard.config import override
from unheard.data.label_table import read_labels
from unheard.datasets.generate import make_sounds
from unheard.errors import ConfigError
from unheard.recipes.learner import build
from unheard.training.callbacks import Callbacks, Run
from unheard.training.pretrain import pretrain

SETTINGS = ("model.frames=32", "training.batch_size=4")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    make_sounds(tmp_path / "tasks" / "noises", 40, seed=0)
    files = sorted((tmp_path / "tasks").rglob("*.wav"))
    rows = [f"{file.relative_to(tmp_path)},{('music', 'effects')[place % 2]}" for place, file in enumerate(files)]
    (tmp_path / "corpus.csv").write_text("\n".join(["path,domain", *rows]) + "\n")
    return tmp_path / "tasks"


def test_arms_are_trained_once_and_tabled(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = tasks.parent, []
    assert main(["data", "pack", str(folder / "corpus.csv"), "-o", str(folder / "spec")]) == 0
    assert main(["data", "pack", str(folder / "corpus.csv"), "-o", str(folder / "wav"), "--store", "wav"]) == 0
    stored = folder / "targets" / "yamnet"
    assert main(["data", "targets", str(folder / "wav"), "--teacher", "random-tiny", "-o", str(stored)]) == 0
    monkeypatch.setattr(choose, "pretrain", lambda *given, **more: (trained.append(given), pretrain(*given, **more))[1])
    words = ["choose", str(folder), "--seeds", "0", "--windows", "256", "--arms", "random,reconstruction,yamnet"]
    monkeypatch.setattr("sys.argv", words + [word for each in SETTINGS for word in ("--set", each)])
    choose.main()
    table = (folder / "choose" / "table.md").read_text()
    arms, by_task = table.split("\n\n")
    rows = {cells[1].strip(): cells for cells in (line.split("|") for line in arms.splitlines()[2:])}
    assert list(rows) == ["random", "reconstruction", "yamnet"]
    assert by_task.splitlines()[0].split(" | ")[1:] == ["random", "reconstruction", "yamnet |"]
    assert [line.split(" | ")[0] for line in by_task.splitlines()[2:]] == ["| noises"]
    assert all(row[2].strip() == "0" and 0 < float(row[3]) < 1 for row in rows.values())
    recipes = [given[2] for given in trained]
    assert [len(recipe.objectives.distill.teachers) for recipe in recipes] == [1, 1]
    assert [recipe.objectives.reconstruct.weight for recipe in recipes] == [1, 0]
    assert [recipe.objectives.distill.weight for recipe in recipes] == [0, 1]
    shutil.rmtree(folder / "choose" / "scores")
    choose.main()
    assert len(trained) == 2 and (folder / "choose" / "table.md").read_text() == table
    monkeypatch.setattr("sys.argv", [*words, "--set", "model.frames=48", "--set", "training.batch_size=4"])
    with pytest.raises(ConfigError, match=r"model\.frames is 32, given 48"):
        choose.main()


@pytest.mark.parametrize("name", choose.ARMS)
def test_a_model_of_every_arm_can_be_built(name: str, tmp_path: Path) -> None:
    recipe = choose.recipe_of(tmp_path, name, 0, 256, [])
    dims = [f"objectives.distill.teachers.{place}.dim=8" for place in range(len(choose.ARMS[name].teachers))]
    learner = build(override(recipe, dims))
    patches = {"3.04s": (5, 19), "16x8": (5, 26)}.get(name, (5, 13))
    assert (learner.grid.freq, learner.grid.time) == patches
    assert len(recipe.objectives.distill.teachers) == max(1, len(choose.ARMS[name].teachers))


def test_an_interrupted_run_is_not_scored(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tasks.parent
    assert main(["data", "pack", str(folder / "corpus.csv"), "-o", str(folder / "spec")]) == 0

    signals = [signal.SIGINT]

    def interrupted(*given: Any, report: Callbacks, **more: Any) -> Run:
        once = replace(report, on_save=lambda run: signal.raise_signal(signals.pop()) if signals else None)
        return pretrain(*given, report=once, **more)

    monkeypatch.setattr(choose, "pretrain", interrupted)
    words = ["choose", str(folder), "--seeds", "0", "--windows", "1280", "--arms", "reconstruction"]
    words += ["--set", "training.checkpoint_every=2"]
    monkeypatch.setattr("sys.argv", words + [word for each in SETTINGS for word in ("--set", each)])
    with pytest.raises(SystemExit, match=r"stopped at step \d+ of 10 and has no scores"):
        choose.main()
    assert not (folder / "choose" / "scores").exists()


def test_a_difference_is_paired_over_clips(tasks: Path, tmp_path: Path) -> None:
    labels = read_labels(tasks / "noises" / "labels.csv")
    rows = [row for row, split in enumerate(labels.split) if split == "valid"]
    target, rng = labels.target[np.array(rows)].astype(float), np.random.default_rng(0)
    (tmp_path / "scores").mkdir()
    for arm, level in ((choose.REFERENCE, 0.0), ("reconstruction", 0.0), ("crepe", 5.0)):
        noise = level * rng.standard_normal(target.shape)
        np.savez(tmp_path / "scores" / f"{arm}-0.npz", **{f"noises/{each}": target + noise for each in choose.CHOICES})
    arms, by_task = choose.table(tmp_path / "scores", {"noises": labels}).split("\n\n")
    last = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in arms.splitlines()[2:]}
    cells = by_task.splitlines()[2].strip("| ").split(" | ")  # in the order of ARMS
    assert cells[:2] == ["noises", "1.000 +0.000 [+0.000, +0.000]"] and cells[2].endswith(last["crepe"])
    assert cells[3] == "1.000"
    assert last["reconstruction"] == "+0.000 [+0.000, +0.000]" and last[choose.REFERENCE] == ""
    assert last["crepe"].startswith("-0.") and last["crepe"].endswith("*")
    worse = {f"noises/{each}": -target for each in choose.CHOICES}
    np.savez(tmp_path / "scores" / f"{choose.REFERENCE}-1.npz", **worse)  # the other arms lack this seed
    arms, _ = choose.table(tmp_path / "scores", {"noises": labels}).split("\n\n")
    assert {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in arms.splitlines()[2:]} == last


def test_clips_of_one_group_have_an_interval(tasks: Path) -> None:
    labels = read_labels(tasks / "noises" / "labels.csv")
    labels.group[:] = ["recording"] * len(labels)
    rows = [row for row, split in enumerate(labels.split) if split == "valid"]
    target = labels.target[np.array(rows)].astype(float)
    target[0] = -target[0]
    found = choose.averaged([{"noises/12, mean": target}], "12, mean", {"noises": labels})
    assert np.ptp(found[:-1]) > 0 and found[-1] == pytest.approx(1 - 1 / len(rows))


def test_the_kept_checkpoints_of_a_run_are_scored_and_drawn(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tasks.parent
    words = ["pretrain", str(tasks), "-o", str(folder / "run"), "--steps", "4", "--device", "cpu"]
    for each in (*SETTINGS, "model.size=tiny", "training.checkpoint_every=2", "training.keep_checkpoints=2"):
        words += ["--set", each]
    assert main(words) == 0
    monkeypatch.setattr("sys.argv", ["curve", str(folder), str(folder / "run")])
    curve.main()
    table = (folder / "learning-curve" / "table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["random", "0"], ["step-00000002", "8"], ["step-00000004", "16"]]
    assert all(0 < float(score) < 1 for row in rows for score in row[2:5]) and rows[-1][-1] == ""
    assert (folder / "learning-curve" / "curve.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(choose, "layer_vectors", None)  # a second call reads the stored predictions
    curve.main()
    assert (folder / "learning-curve" / "table.md").read_text() == table
