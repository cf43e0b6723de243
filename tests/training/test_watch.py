"""A labelled table is scored while a run trains, and the run stays the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.errors import UnheardError
from unheard.evaluation.probe import watched
from unheard.evaluation.probe.heads import REGULARISATION, logistic_regression
from unheard.evaluation.probe.watched import WatchedLabels
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.watch.plan import SHARE, WatchPlan, chosen_interval, share_of
from unheard.weights.checkpoint import load_model
from unheard.weights.tensors import read_tensors

SETTINGS = [
    *("model.frames=48", "model.embed_dim=24", "model.depth=2", "model.num_heads=2", "model.decoder_embed_dim=16"),
    *("model.decoder_depth=1", "model.decoder_num_heads=2", "training.batch_size=8", "training.steps=8"),
    *("training.log_every=2", "training.checkpoint_every=4", "training.seed=5"),
]
TEACHER = ["objectives.reconstruct.weight=0", "objectives.latents.weight=1", "teacher.momentum_start=0.9"]
LINEAR, KNN = "probe/linear/balanced_accuracy", "probe/knn/balanced_accuracy"


def tone(number: int, pitch: float) -> np.ndarray:
    noise = np.random.default_rng(number).standard_normal(8000 + 500 * (number % 3))
    return (np.sin(np.arange(len(noise)) * pitch) * 0.3 + 0.02 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(12):
        soundfile.write(folder / f"{number:02d}.wav", tone(number, 0.05 + 0.03 * number), 16000)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    rows = ["path,label"]
    for number in range(30):
        soundfile.write(folder / f"{number:02d}.wav", tone(100 + number, (0.05, 0.2, 0.8)[number % 3]), 16000)
        rows.append(f"{number:02d}.wav,{('low', 'middle', 'high')[number % 3]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "labels.csv"


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scores_of(run: Path) -> list[tuple[float, float, float]]:
    return [(row["step"], row[LINEAR], row[KNN]) for row in rows_of(run) if LINEAR in row]


@pytest.mark.parametrize("extra", [[], TEACHER], ids=["reconstruct", "teacher"])
def test_a_watched_run_trains_the_same_weights(extra: list[str], sounds: Path, table: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, *extra]
    unheard.pretrain(sounds, tmp_path / "plain", settings=settings, device="cpu")
    unheard.pretrain(sounds, tmp_path / "watched", settings=settings, watch=table, watch_every=3, device="cpu")
    for name in ("learner.safetensors", "optimiser.safetensors"):
        one, two = (read_tensors(checkpoints(tmp_path / run)[-1] / name, None) for run in ("plain", "watched"))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert [step for step, *_ in scores_of(tmp_path / "watched")] == [0, 3, 6, 8]
    plain = {row["step"]: row["loss"] for row in rows_of(tmp_path / "plain")}
    assert {row["step"]: row["loss"] for row in rows_of(tmp_path / "watched") if row["step"] in plain} == plain


def test_the_scores_are_those_of_the_embeddings_of_the_run(sounds: Path, table: Path, tmp_path: Path) -> None:
    unheard.pretrain(sounds, tmp_path / "run", settings=SETTINGS, watch=table, watch_every=4, device="cpu")
    labels, model = read_labels(table), unheard.load(tmp_path / "run", "cpu")
    train, test = watched._sides(labels)[0]
    vectors = np.stack([model.embed(path).scene for path in labels.paths]).astype(np.float64)
    answer = logistic_regression(
        vectors[train], labels.ternary_targets[train], vectors[test], [REGULARISATION], labels.multilabel
    )[0]
    expected = watched.balanced_accuracy_score(labels.ternary_targets[test], answer)
    assert scores_of(tmp_path / "run")[-1][1] == pytest.approx(expected)


def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(sounds: Path, table: Path, tmp_path: Path) -> None:
    import shutil

    unheard.pretrain(sounds, tmp_path / "whole", settings=SETTINGS, watch=table, watch_every=2, device="cpu")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000008")
    unheard.resume(tmp_path / "cut", device="cpu")
    assert scores_of(tmp_path / "cut") == scores_of(tmp_path / "whole")
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    unheard.resume(tmp_path / "cut", device="cpu")
    assert scores_of(tmp_path / "cut") == scores_of(tmp_path / "whole")
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    text = table.read_text()
    table.write_text(text.rsplit("\n", 2)[0] + "\n")
    try:
        with pytest.raises(UnheardError, match="labels.csv has changed since the run started"):
            unheard.resume(tmp_path / "cut", device="cpu")
    finally:
        table.write_text(text)
    table.rename(table.with_suffix(".moved"))
    try:
        with pytest.raises(UnheardError, match="labels.csv: no such file"):
            unheard.resume(tmp_path / "cut", device="cpu")
    finally:
        table.with_suffix(".moved").rename(table)


def test_two_processes_wait_for_the_scores(sounds: Path, table: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    settings = [part for each in SETTINGS for part in ("--set", each)]
    command = ["--standalone", "-m", "unheard", "pretrain", str(sounds), "-o", str(tmp_path / "two"), "--device", "cpu"]
    done = subprocess.run(
        [*start, *command, "--watch", str(table), *settings],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("labels.csv: 24 training and 6 test clips") == 1
    unheard.pretrain(sounds, tmp_path / "one", settings=SETTINGS, device="cpu")
    every = json.loads((tmp_path / "two" / "config.json").read_text())["watch"]["every"]
    losses = {row["step"]: row["loss"] for row in rows_of(tmp_path / "one")}
    found = {row["step"]: row["loss"] for row in rows_of(tmp_path / "two") if "loss" in row}
    assert {step: found[step] for step in losses} == pytest.approx(losses, rel=1e-4)
    assert [step for step, *_ in scores_of(tmp_path / "two")] == sorted({*range(0, 9, every), 8})


def test_the_interval_keeps_the_scores_below_their_share() -> None:
    for total, step, score in [(1000, 0.1, 0.5), (200, 0.01, 0.02), (10_000, 0.5, 1.0), (777, 0.3, 2.0)]:
        plan = WatchPlan("labels.csv", chosen_interval(total, step, score, 20))
        assert share_of(plan, total, step, score) <= SHARE and plan.every % 20 == 0
    assert chosen_interval(100, 0.01, 60.0, 20) == 100  # too slow for the run: before the first and after the last step
    assert [WatchPlan("labels.csv", 7).due(step, 10) for step in (6, 7, 9, 10)] == [False, True, False, True]


def test_a_large_table_is_sampled_and_the_memory_bounded(
    sounds: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = find_recipe("msm-mae")
    monkeypatch.setattr(watched, "MOST_CLIPS", 15)
    found = WatchedLabels.read(WatchPlan(str(table)), recipe)
    assert len(found.waves) == 15 and any("a sample of 15 of 30 clips" in line for line in found.about())
    again = WatchedLabels.read(WatchPlan(str(table)), recipe)
    assert all(np.array_equal(one, two) for one, two in zip(found.waves, again.waves, strict=True))
    monkeypatch.setattr(watched, "MOST_BYTES", 10 * 8500 * 4)
    assert len(WatchedLabels.read(WatchPlan(str(table)), recipe).waves) <= 11


@pytest.mark.parametrize("pattern", [".", "*.wav"])
def test_clips_of_the_corpus_are_reported(
    pattern: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corpus is the folder, or its files as several sources."""
    settings = [part for each in SETTINGS for part in ("--set", each)]
    sources = [table.parent] if pattern == "." else sorted(table.parent.glob(pattern))
    command = ["pretrain", *map(str, sources), "-o", str(tmp_path / "run"), "--device", "cpu", *settings]
    assert main([*command, "--watch", str(table), "--watch-every", "8"]) == 0
    printed = capsys.readouterr().err
    assert "30 of 30 files are also in the training corpus" in printed
    assert "scored every 8 steps, about" in printed


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such file"),
        (["00.wav,low", "03.wav,low"], "1 class"),
        (["00.wav,low", "03.wav,low", "01.wav,middle"], "'middle' has 1 clip"),
        (
            [*(f"{k:02d}.wav,{'low' if k < 4 else 'middle'}" for k in range(8)), "broken.wav,middle"],
            "row 10: .*broken.wav",
        ),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused_before_the_run(
    rows: list[str] | None, message: str, sounds: Path, table: Path, tmp_path: Path
) -> None:
    (table.parent / "broken.wav").write_bytes(b"RIFF no sound")
    given = table.parent / "given.csv"
    given.unlink(missing_ok=True)
    if rows is not None:
        given.write_text("\n".join(["path,label", *rows]) + "\n")
    with pytest.raises(UnheardError, match=message):
        unheard.pretrain(sounds, tmp_path / "run", settings=SETTINGS, watch=given, device="cpu")
    (table.parent / "broken.wav").unlink()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("options", "message"), [({"watch_every": 3}, "needs --watch"), ({}, "at least 1 step")])
def test_intervals_that_mean_nothing_are_refused(
    options: dict[str, int], message: str, sounds: Path, table: Path, tmp_path: Path
) -> None:
    given = options or {"watch_every": 0, "watch": table}
    with pytest.raises(UnheardError, match=message):
        unheard.pretrain(sounds, tmp_path / "run", settings=SETTINGS, device="cpu", **given)


def test_pages_and_lists_show_the_scores(
    sounds: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        unheard.pretrain(sounds, tmp_path / name, settings=SETTINGS, watch=table, watch_every=4, device="cpu")
    best = max(linear for _, linear, _ in scores_of(tmp_path / "one"))
    found = {run.path.name: run for run in unheard.api.runs(tmp_path)[0]}
    assert found["one"].watched is not None and found["one"].watched.value == best
    assert main(["runs", str(tmp_path)]) == 0
    assert f"balanced accuracy {best:.3f} (step " in capsys.readouterr().out
    assert main(["report", str(tmp_path / "one")]) == 0
    assert f"balanced accuracy {best:.3f} (linear head, step" in (tmp_path / "one" / "report.html").read_text()
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "compare.html")]) == 0
    assert load_model(tmp_path / "one").recipe.name == "msm-mae"
