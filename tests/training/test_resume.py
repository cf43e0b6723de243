"""A run is resumed to its very end: model, figures, and a corpus that has moved."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from unheard.cli import main
from unheard.config import override
from unheard.errors import ConfigError, DataError
from unheard.recipes import find_recipe
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.checkpoint import load_model

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SMALL = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
SETTINGS = [
    "training.batch_size=8",
    "training.steps=14",
    "training.log_every=1",
    "training.checkpoint_every=4",
    "training.seed=5",
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(12):
        soundfile.write(folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(16000)).astype(np.float32), 16000)
    return folder


def losses(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in found]


@pytest.mark.parametrize("lost", ["model", "model of an earlier step", "figures"])
def test_resume_completes_a_run_that_was_killed_after_its_last_checkpoint(sounds, tmp_path, lost):
    run, drawn = tmp_path / "run", []
    pretrain(sounds, run, override(SMALL, SETTINGS), device="cpu")
    last = load_model(run).learner.export_state_dict()
    before = (run / "metrics.jsonl").read_bytes()
    (run / "finished.json").unlink()
    if lost.startswith("model"):
        shutil.rmtree(run / "model")
    if lost == "model of an earlier step":
        pretrain(sounds, tmp_path / "short", override(SMALL, [*SETTINGS, "training.steps=2"]), device="cpu")
        shutil.copytree(tmp_path / "short" / "model", run / "model")
    done = resume(
        run, device="cpu", report=Callbacks(on_end=lambda folder, store: drawn.append((folder, len(store.frames))))
    )
    assert done.finished and drawn == [(run, 12)]
    assert all(
        torch.equal(value, last[name]) for name, value in load_model(run / "model").learner.export_state_dict().items()
    )
    assert load_model(run / "model").provenance.trained["steps"] == "14 of 14"
    assert (run / "metrics.jsonl").read_bytes() == before
    resume(run, device="cpu", report=Callbacks(on_end=lambda folder, store: drawn.append((folder, 0))))
    assert len(drawn) == 1


def test_a_run_that_dies_while_it_draws_is_completed(sounds, tmp_path):
    def killed(folder, store):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(sounds, tmp_path / "run", override(SMALL, SETTINGS), device="cpu", report=Callbacks(on_end=killed))
    drawn = []
    assert resume(
        tmp_path / "run", device="cpu", report=Callbacks(on_end=lambda folder, store: drawn.append(folder))
    ).finished
    assert drawn == [tmp_path / "run"]


def test_the_corpus_of_a_run_can_move(sounds, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(sounds, old)
    pretrain(old, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    whole = losses(tmp_path / "run")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    old.rename(new)
    with pytest.raises(
        DataError, match=r"old: no such file or folder; if the corpus of .* has moved, .* --data NEW_PATH"
    ):
        resume(tmp_path / "run", device="cpu")
    shutil.copytree(new, tmp_path / "other")
    (tmp_path / "other" / "03.wav").unlink()
    with pytest.raises(DataError, match="is not the one that .* started with"):
        resume(tmp_path / "run", data=tmp_path / "other", device="cpu")
    assert resume(tmp_path / "run", data=new, device="cpu").finished
    assert losses(tmp_path / "run") == whole
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    assert resume(tmp_path / "run", device="cpu").finished  # the new place is kept
    assert resume(tmp_path / "run", data=new, device="cpu").finished
    with pytest.raises(ConfigError, match=r"is finished and was trained on .*new, so --data .*other would not be used"):
        resume(tmp_path / "run", data=tmp_path / "other", device="cpu")


def test_the_number_of_devices_can_change_and_other_settings_cannot(sounds, tmp_path, capsys):
    run = tmp_path / "run"
    pretrain(sounds, run, override(SMALL, SETTINGS), device="cpu")
    shutil.rmtree(checkpoints(run)[-1])
    command = ["pretrain", "--resume", str(run), "--device", "cpu", "--set"]
    assert main([*command, "training.batch_size=4"]) == 2
    line = capsys.readouterr().err
    changeable = "training.devices, training.skip_bad_batches, data.on_device"
    assert f"cannot change training.batch_size=4; it can change {changeable}" in line
    assert f"--init {run} --set training.batch_size=4" in line
    program = [sys.executable, "-W", "ignore", "-m", "unheard", *command, "training.devices=2"]
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "float32 on cpu x 2" in done.stderr, done.stderr
    stored = json.loads((run / "config.json").read_text())["recipe"]["training"]
    assert (stored["devices"], stored["batch_size"], len(losses(run))) == (2, 8, 14)


def test_the_command_resumes_with_the_new_place_and_refuses_it_without(sounds, tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(sounds, old)
    pretrain(old, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    old.rename(new)
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "--data NEW_PATH" in capsys.readouterr().err
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--data", str(new), "--device", "cpu"]) == 0
    assert main(["pretrain", str(new), "--data", str(new), "-o", str(tmp_path / "other")]) == 2
    assert "--data needs --resume" in capsys.readouterr().err


def test_a_fine_tuning_run_that_dies_before_its_scores_gets_them(sounds, tmp_path, monkeypatch):
    rows = [
        f"{path},{'high' if number % 2 else 'low'},{('train', 'valid', 'test')[number % 3]}"
        for number, path in enumerate(sorted(sounds.iterdir()))
    ]
    (tmp_path / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    asked = [str(tmp_path / "labels.csv"), "-o", str(tmp_path / "run"), "--steps", "2", "--device", "cpu"]

    def killed(run, device, track):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("unheard.view.finetuned.score_run", killed)
        assert main(["finetune", "random-tiny", *asked]) == 130
    assert checkpoints(tmp_path / "run") and not (tmp_path / "run" / "scores.json").exists()
    assert main(["finetune", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "figures" / "confusion.png").is_file() and list((tmp_path / "run").glob("*scores*"))
