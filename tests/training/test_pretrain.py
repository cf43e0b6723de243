"""A run from start to finish: what it writes, how it stops, how it continues."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from unheard.config import override, to_json
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import read_json, write_json
from unheard.model.sizes import ModelConfig
from unheard.recipes import find_recipe
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import Origin, pretrain
from unheard.training.resume import resume
from unheard.view.report import _facts
from unheard.weights.checkpoint import load_model

SMALL = replace(
    find_recipe("msm-mae"),
    model=ModelConfig(
        frames=48,
        patch_size=(16, 16),
        embed_dim=24,
        depth=2,
        num_heads=2,
        decoder_embed_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    ),
)
SETTINGS = [
    "training.batch_size=8",
    "training.steps=14",
    "training.log_every=1",
    "training.checkpoint_every=4",
    "training.seed=5",
]
LATENT = [
    "objectives.reconstruct.weight=0.5",
    "objectives.latents.weight=1",
    "teacher.momentum_start=0.9",
    "teacher.momentum_end=0.99",
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(12):
        length = 16000 if index else 3000
        tone = np.sin(np.arange(length) * (0.05 + 0.03 * index)) * 0.3 + 0.01 * generator.standard_normal(length)
        soundfile.write(folder / f"{index:02d}.wav", tone.astype(np.float32), 16000)
    return folder


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return [(row["step"], row["loss"]) for row in rows(run)]


@pytest.mark.parametrize("extra", [[], LATENT], ids=["pixels", "pixels and latents"])
def test_a_resumed_run_repeats_the_uninterrupted_one_number_by_number(sounds, tmp_path, extra):
    recipe = override(SMALL, SETTINGS + extra)
    pretrain(sounds, tmp_path / "whole", recipe, device="cpu")
    pretrain(sounds, tmp_path / "broken", recipe, device="cpu")
    for folder in checkpoints(
        tmp_path / "broken"
    ):  # as if it had been killed some steps after the checkpoint at step 12
        if not folder.name.endswith("12"):
            shutil.rmtree(folder)
    with (tmp_path / "broken/metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    resume(tmp_path / "broken", device="cpu")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    ours, theirs = (load_model(tmp_path / name) for name in ("broken", "whole"))
    for name, value in theirs.learner.export_state_dict().items():
        assert torch.equal(ours.learner.export_state_dict()[name], value), name


def test_kill_9_loses_nothing_before_the_last_checkpoint(sounds, tmp_path):
    recipe = override(SMALL, [*SETTINGS, "training.steps=400", "training.checkpoint_every=5"])
    pretrain(sounds, tmp_path / "whole", override(recipe, ["training.steps=400"]), device="cpu")
    program = (
        "import json, sys\nfrom unheard.config import from_json\nfrom unheard.recipes.recipe import Recipe\n"
        "from unheard.training.pretrain import pretrain\n"
        "pretrain(sys.argv[1], sys.argv[2], from_json(Recipe, json.loads(sys.argv[3])), device='cpu')\n"
    )
    run = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(sounds), str(run), json.dumps(to_json(recipe))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not checkpoints(run) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert checkpoints(run), "the run never wrote a checkpoint"
    resume(run, device="cpu")
    assert losses(run) == losses(tmp_path / "whole")


def test_a_run_folder_holds_what_the_design_says(sounds, tmp_path):
    lines = []
    run = pretrain(
        sounds, tmp_path / "run", override(SMALL, SETTINGS), device="cpu", report=Callbacks(log=lines.append)
    )
    assert run.finished and run.step == 14
    for name in (
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "model/config.json",
        "model/model.safetensors",
    ):
        assert (run.folder / name).exists(), name
    first = rows(run.folder)[0]
    assert {
        "step",
        "epoch",
        "loss",
        "loss/reconstruct",
        "learning_rate",
        "clips_per_second",
        "loader_wait",
        "time",
    } <= set(first)
    text = "\n".join(lines)
    assert "12 clips" in text and "15 tokens per window" in text and "about" in text
    assert len(checkpoints(run.folder)) == 2
    assert not list(run.folder.rglob("*.pt*")) and not list(run.folder.rglob("*.pkl"))


def test_a_finished_run_says_so(sounds, tmp_path):
    pretrain(sounds, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    lines = []
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert resume(tmp_path / "run", report=Callbacks(log=lines.append)).finished
    assert "finished" in lines[0]
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_rows_hold_the_time_that_passed(sounds, tmp_path):
    begin = time.perf_counter()
    pretrain(sounds, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    passed = sum(row["seconds"] for row in rows(tmp_path / "run"))
    assert 0 < passed < time.perf_counter() - begin
    facts = _facts(
        json.loads((tmp_path / "run/config.json").read_text()),
        [{**row, "seconds": 60.0} for row in rows(tmp_path / "run")],
    )
    assert facts["time"] == "14 min 0 s of training, over all sessions"


def test_with_no_checkpoint_yet_a_run_begins_again(sounds, tmp_path):
    pretrain(sounds, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    whole = losses(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    resume(tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run") == whole


def test_training_lowers_the_loss(sounds, tmp_path):
    settings = ["training.batch_size=16", "training.steps=250", "training.log_every=1", "training.learning_rate=0.004"]
    pretrain(sounds, tmp_path / "run", override(SMALL, settings), device="cpu")
    curve = [loss for _, loss in losses(tmp_path / "run")]
    assert np.mean(curve[-5:]) < 0.6 * np.mean(curve[:5])


def test_an_existing_run_is_replaced_only_when_asked(sounds, tmp_path):
    recipe = override(SMALL, [*SETTINGS, "training.steps=2"])
    pretrain(sounds, tmp_path / "run", recipe, device="cpu")
    (tmp_path / "run/mark").touch()
    with pytest.raises(ConfigError, match="--overwrite"):
        pretrain(sounds, tmp_path / "run", recipe)
    with pytest.raises(DataError, match="no such file or folder"):
        pretrain(tmp_path / "typo", tmp_path / "run", recipe, overwrite=True)
    assert (tmp_path / "run/mark").exists()
    pretrain(sounds, tmp_path / "run", recipe, device="cpu", overwrite=True)
    assert not (tmp_path / "run/mark").exists()


def test_overwrite_never_deletes_what_is_no_run(sounds, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(sounds, mine)
    recipe = override(SMALL, SETTINGS)
    with pytest.raises(ConfigError, match="is not a run folder"):
        pretrain(mine, mine, recipe, overwrite=True)
    with pytest.raises(ConfigError, match="is not a run folder"):
        pretrain(sounds, mine / "00.wav", recipe, overwrite=True)
    assert len(list(mine.iterdir())) == 12
    pretrain(sounds, tmp_path / "run", override(recipe, ["training.steps=1"]), device="cpu")
    shutil.copytree(sounds, tmp_path / "run/sounds")
    with pytest.raises(ConfigError, match="is inside"):
        pretrain(tmp_path / "run/sounds", tmp_path / "run", recipe, overwrite=True)
    assert len(list((tmp_path / "run/sounds").iterdir())) == 12


def test_a_mask_that_hides_nothing_is_refused(sounds, tmp_path):
    with pytest.raises(ConfigError, match="masks none of the 15 patches"):
        pretrain(sounds, tmp_path / "run", override(SMALL, [*SETTINGS, "model.mask_ratio=0"]))


def test_a_changed_corpus_is_refused_on_resume(sounds, tmp_path):
    copy = tmp_path / "sounds"
    shutil.copytree(sounds, copy)
    pretrain(copy, tmp_path / "run", override(SMALL, SETTINGS), device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    (copy / "03.wav").unlink()
    with pytest.raises(DataError, match="has changed"):
        resume(tmp_path / "run")


def test_resuming_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(
        CheckpointError, match="there is no run at .*; give the folder that unheard pretrain or finetune wrote"
    ):
        resume(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        resume(tmp_path)
    for values, message in (({}, "no recipe or no steps"), ({"recipe": {}, "total": "x"}, "not a pre-training run of")):
        write_json(tmp_path / "config.json", values)
        with pytest.raises(CheckpointError, match=message):
            resume(tmp_path)


def test_init_starts_from_weights_and_another_size_is_refused(sounds, tmp_path):
    pretrain(sounds, tmp_path / "first", override(SMALL, SETTINGS), device="cpu")
    again = override(SMALL, [*SETTINGS, "training.learning_rate=0", "training.steps=2"])
    pretrain(sounds, tmp_path / "second", again, origin=Origin(tmp_path / "first"), device="cpu")
    first, second = (load_model(tmp_path / name).learner.export_state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(CheckpointError, match=r"model\.embed_dim is 24, that of the recipe 32"):
        pretrain(sounds, tmp_path / "third", override(again, ["model.embed_dim=32"]), origin=Origin(tmp_path / "first"))


def test_accumulation_gives_the_same_run_as_one_large_batch(sounds, tmp_path):
    settings = [*SETTINGS, "data.crops=length"]
    only_long = tmp_path / "long"
    shutil.copytree(sounds, only_long)
    (only_long / "00.wav").unlink()  # no padding, so that equal parts weigh the same
    pretrain(only_long, tmp_path / "whole", override(SMALL, settings), device="cpu")
    pretrain(only_long, tmp_path / "parts", override(SMALL, [*settings, "training.accumulate=4"]), device="cpu")
    for (_, a), (_, b) in zip(losses(tmp_path / "whole"), losses(tmp_path / "parts"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_fewer_clips_than_a_batch_repeat(sounds, tmp_path):
    small = tmp_path / "two"
    small.mkdir()
    for name in ("01.wav", "02.wav"):
        shutil.copy(sounds / name, small)
    run = pretrain(
        small, tmp_path / "run", override(SMALL, [*SETTINGS, "training.steps=null", "training.epochs=3"]), device="cpu"
    )
    assert run.step >= 1 and run.finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_a_checkpoint_and_resume_continues(sounds, tmp_path, number):
    recipe = override(SMALL, [*SETTINGS, "training.steps=2000", "training.checkpoint_every=100000"])

    def interrupt(text):
        if text.startswith("training"):  # the last line before the loop
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()

    stopped = pretrain(sounds, tmp_path / "run", recipe, device="cpu", report=Callbacks(log=interrupt))
    assert 0 < stopped.step < 2000 and not stopped.finished
    assert checkpoints(tmp_path / "run")[-1].name.endswith(f"{stopped.step:08d}")
    stored = read_json(tmp_path / "run/config.json")
    write_json(tmp_path / "run/config.json", {**stored, "total": stopped.step + 3})
    assert resume(tmp_path / "run", device="cpu").step == stopped.step + 3


def test_bf16_is_refused_where_the_processor_has_none(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("unheard.training.engine.bf16_on_cpu", lambda: False)
    with pytest.raises(ConfigError, match="AVX512-BF16 or AMX"):
        pretrain(sounds, tmp_path / "run", override(SMALL, [*SETTINGS, "training.precision=bf16"]), device="cpu")
