"""A batch of fine-tuning whose loss is not finite: skipped, counted and recorded as in pre-training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.errors import CheckpointError, DataError
from unheard.files import read_json, read_json_lines, write_json
from unheard.finetuning.loader import LabelledBatch, LabelledLoader
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.replay import replay
from unheard.finetuning.run import finetune, resume
from unheard.finetuning.session import read_session
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints
from unheard.view.run import curve_figure
from unheard.weights.checkpoint import Provenance, load_model, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
SETTINGS = [
    *(
        "training.batch_size=4",
        "training.steps=9",
        "training.log_every=1",
        "training.checkpoint_every=3",
        "training.learning_rate=1e-3",
    ),
    *("adapt.weight_averaging=ema", "task.norm=batch", "augment.wave_mixup_prob=0.3"),
]
CLOCKS = ("time", "seconds", "clips_per_second", "loader_wait")
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import test_bad_batches as test
test.poison(None)
test.tune(Path(sys.argv[2]), Path(sys.argv[3]), "training.skip_bad_batches=2")
"""


def poison(monkeypatch: pytest.MonkeyPatch | None, steps: tuple[int, ...] = (3, 6)) -> None:
    """Put a NaN into the second clip of the batches of some steps, counted from 0, in whichever process has it; step 4
    ends an epoch.
    """
    plain = LabelledLoader.batch

    def batch(self: LabelledLoader, step: int) -> LabelledBatch:
        made = plain(self, step)
        mine = range(self.share.batch_size)[self.share.local_slice]
        if step in steps and 1 in mine:
            made.clips.values[1 - mine.start, 0, 0] = torch.nan
        return made

    if monkeypatch is None:
        LabelledLoader.batch = batch  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(LabelledLoader, "batch", batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    sides = ["train"] * 16 + ["valid"] * 4
    for number in range(20):
        soundfile.write(
            place / f"{number}.wav",
            rng.normal(0, 0.1, 4000) * np.sin(0.2 * (number % 2) + 0.1 * np.arange(4000)),
            16000,
        )
    rows = [f"{number}.wav,{'ab'[number % 2]},{side}" for number, side in enumerate(sides)]
    (place / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    return place


def tune(folder: Path, run: Path, *settings: str, report: Callbacks | None = None) -> Path:
    recipe = override(FinetuneRecipe(), [*SETTINGS, *settings])
    assert finetune(folder / "model", folder / "labels.csv", run, recipe, device="cpu", report=report)
    return run


def curve(run: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if name not in CLOCKS}
        for row in read_json_lines(run / "metrics.jsonl")[0]
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    saved = load_model(run)
    assert saved.classifier is not None
    return {
        **saved.learner.export_state_dict(),
        **{f"classifier.{name}": value for name, value in saved.classifier.state_dict().items()},
    }


def test_bad_batches_are_skipped_named_and_recorded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    lines: list[str] = []
    run = tune(folder, tmp_path / "run", "training.skip_bad_batches=2", report=Callbacks(log=lines.append))
    skips = [line for line in lines if "the update is skipped" in line]
    assert len(skips) == 2 and "step 4" in skips[0] and "(2 of at most 2)" in skips[1] and ".wav" in skips[1]
    rows = {row["step"]: row for row in curve(run)}
    assert set(rows) == {1, 2, 3, 4, 5, 6, 8, 9} and all(
        np.isfinite(row["loss"]) for step, row in rows.items() if step != 4
    )
    assert "loss" not in rows[4] and "valid/loss" in rows[4]  # an epoch ends there
    assert all(bool(value.isfinite().all()) for value in weights(run).values())
    state = read_json(run / "bad-step-00000007" / "state.json")
    assert state["checkpoint_step"] == 6 and len(state["clips"]) == len(state["files"]) == 4
    assert (
        f"unheard debug replay {run}" in skips[1]
        and (run / "bad-step-00000007" / "checkpoint" / "state.json").is_file()
    )
    curve_figure(run)


def test_one_more_than_allowed_ends_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)
    with pytest.raises(
        DataError, match=r"at step 7, in a batch of .*\.wav.*1 bad batches were already skipped.*unheard debug replay"
    ):
        tune(folder, tmp_path / "one", "training.skip_bad_batches=1")
    with pytest.raises(DataError, match=r"the loss became nan at step 4.*unheard debug replay"):
        tune(folder, tmp_path / "none")


def test_a_bad_step_is_replayed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as poisoned:
        poison(poisoned, steps=(4,))
        with pytest.raises(DataError, match=r"the loss became nan at step 5.*unheard debug replay .*run"):
            tune(folder, run)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        found = replay(run, device="cpu")
        assert (found.step, found.weights_finite, len(found.windows)) == (5, True, 4)
        assert np.isnan(found.losses["loss"]) and np.isnan(found.windows[1].largest) and not found.windows[1].finite
        assert found.windows[0].finite and found.windows[0].file.endswith(".wav")
        assert main(["debug", "replay", str(run), "--device", "cpu"]) == 0
        out = capsys.readouterr().out
        assert "step 5: loss nan" in out and f"not finite: {found.windows[1].file}" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    good = {row["step"]: row["loss"] for row in curve(tune(folder, tmp_path / "good"))}
    assert replay(run, device="cpu").losses["loss"] == good[5]
    with pytest.raises(CheckpointError, match="has no record of a bad step"):
        replay(tmp_path / "good", device="cpu")


def test_a_bad_step_of_one_of_several_models_is_replayed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, steps=(4,))
    run = tune(folder, tmp_path / "run", "training.skip_bad_batches=1", 'task.channels=["left","right"]')
    with pytest.raises(CheckpointError, match=r"2 models of .*run have records.*members/left, .*members/right"):
        replay(run, device="cpu")
    assert replay(run / "members" / "right", device="cpu").step == 5
    assert main(["debug", "replay", str(run / "members" / "left"), "--device", "cpu", "--step", "4"]) == 2


def test_a_resumed_run_skips_what_the_uninterrupted_one_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    whole, broken = tune(folder, tmp_path / "whole", "training.skip_bad_batches=2"), tmp_path / "broken"
    with pytest.raises(DataError):
        tune(folder, broken, "training.skip_bad_batches=1")
    assert resume(broken, skip_bad_batches=2, device="cpu")
    assert read_session(broken).recipe.training.skip_bad_batches == 2 and curve(broken) == curve(whole)
    shutil.rmtree(checkpoints(broken)[-1])
    assert main(["finetune", "--resume", str(broken), "--device", "cpu", "--skip-bad-batches", "2"]) == 0
    ours, theirs = weights(broken), weights(whole)
    assert curve(broken) == curve(whole) and all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_skipped_batch_changes_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every update skipped, the weights and the running statistics of the norm are those of the start."""
    poison(monkeypatch, steps=tuple(range(9)))
    run = tune(folder, tmp_path / "run", "training.skip_bad_batches=9")
    found = weights(run)
    assert int(found["classifier.norm.num_batches_tracked"]) == 0 and not found["classifier.norm.running_mean"].any()
    before = {
        name: value
        for name, value in load_model(folder / "model").learner.export_state_dict().items()
        if "blocks" in name and ".encoder." in name
    }
    assert before and all(torch.equal(found[name], value) for name, value in before.items())


def test_all_processes_skip_what_is_bad_in_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poisoned.py").write_text(PROGRAM)
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
    command = [*start, str(tmp_path / "poisoned.py"), __file__, str(folder), str(tmp_path / "two")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert [place.name for place in sorted((tmp_path / "two").glob("bad-step-*"))] == [
        "bad-step-00000004",
        "bad-step-00000007",
    ]
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "two").values())
    poison(monkeypatch)
    recorded = tmp_path / "two" / "bad-step-00000004"
    again = shutil.copytree(recorded, recorded.with_name("bad-step-00000006"))
    write_json(again / "state.json", {**read_json(recorded / "state.json"), "step": 6})
    rows = {row["step"]: row.get("loss") for row in curve(tmp_path / "two")}
    found = replay(tmp_path / "two", step=6, device="cpu")
    assert found.losses["loss"] == pytest.approx(rows[6], rel=1e-5) and len(found.windows) == 4
