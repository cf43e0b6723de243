"""A checkpoint that a run has kept is a model: it is loaded, embeds, and starts other runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.cli import main
from unheard.datasets.generate import make_sounds
from unheard.embedding.embedder import Model
from unheard.embedding.loading import name_of, named
from unheard.errors import CheckpointError
from unheard.files import read_json, write_json
from unheard.weights.checkpoint import load_model

SETTINGS = (
    "model.size=tiny", "model.frames=32", "training.batch_size=2", "training.checkpoint_every=2",
    "training.keep_checkpoints=3", "objectives.latents.weight=1", "training.learning_rate=0.01", "training.warmup=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a teacher, which a model folder does not have, and its sounds."""
    place = tmp_path_factory.mktemp("kept")
    (place / "sounds").mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).standard_normal(16000) * 0.1
        soundfile.write(place / "sounds" / f"{index}.wav", noise, 16000)
    settings = [word for each in SETTINGS for word in ("--set", each)]
    words = [str(place / "sounds"), "-o", str(place / "run"), "--steps", "4", "--device", "cpu"]
    assert main(["pretrain", *words, *settings]) == 0
    return place / "run"


def test_the_last_checkpoint_is_the_model_of_the_run_and_earlier_ones_are_others(run: Path) -> None:
    latest = load_model(run)
    last, first = (load_model(run / "checkpoints" / f"step-{step:08d}") for step in (4, 2))
    weights = [each.learner.export_state_dict() for each in (latest, last, first)]
    assert weights[0].keys() == weights[1].keys() == weights[2].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert latest.provenance == last.provenance and first.statistics == last.statistics
    assert first.provenance.trained["steps"] == "2 of 4" and first.provenance.trained["crops"] == 4


def test_a_checkpoint_embeds_and_starts_a_run(run: Path, tmp_path: Path) -> None:
    step, sounds = run / "checkpoints" / "step-00000002", run.parent / "sounds"
    assert main(["embed", str(step), str(sounds), "-o", str(tmp_path / "emb.npz"), "--device", "cpu"]) == 0
    model = unheard.load(str(step), device="cpu")
    assert isinstance(model, Model)
    stored = np.load(tmp_path / "emb.npz")["embedding"]
    np.testing.assert_allclose(stored[0], model.embed(sounds / "0.wav").scene, atol=1e-5)
    words = ["--init", str(step), "-o", str(tmp_path / "run"), "--steps", "1", "--device", "cpu"]
    assert main(["pretrain", str(sounds), *words]) == 0


def test_the_name_of_a_checkpoint_in_results_has_the_name_of_its_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that checkpoints of several runs at one step can be compared."""
    other = shutil.copytree(run, tmp_path / "other")
    steps = [each / "checkpoints" / "step-00000002" for each in (run, other)]
    assert [name_of(step) for step in steps] == ["run-step-00000002", "other-step-00000002"]
    assert list(named([run, *steps, unheard.load(run / "model")], first="model")) == [
        "model", "run-step-00000002", "other-step-00000002", "run",
    ]  # fmt: skip
    monkeypatch.chdir(steps[1])
    assert name_of(".") == name_of(unheard.load(".")) == "other-step-00000002"
    (tmp_path / "table").mkdir()
    make_sounds(tmp_path / "table", clips=12)
    words = ["--head", "linear", "--seeds", "1", "--compare", str(steps[1]), "--device", "cpu"]
    assert (
        main(["probe", str(steps[0]), str(tmp_path / "table" / "labels.csv"), "-o", str(tmp_path / "p"), *words]) == 0
    )
    assert "| other-step-00000002 | linear |" in (tmp_path / "p" / "probe.md").read_text()


def test_checkpoints_at_multiples_of_a_step_are_kept(run: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.checkpoint_every=3", "training.keep_checkpoints=1", "training.keep_every=2"]
    words = [str(run.parent / "sounds"), "-o", str(tmp_path / "run"), "--steps", "7", "--device", "cpu"]
    assert main(["pretrain", *words, *(word for each in settings for word in ("--set", each))]) == 0
    kept = sorted(folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}" for step in (2, 4, 6, 7)]


def test_a_damaged_or_incomplete_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    step = copy / "checkpoints" / "step-00000002"
    weights = bytearray((step / "learner.safetensors").read_bytes())
    weights[-1] ^= 1
    (step / "learner.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"step-00000002/learner.safetensors differs from its checksum"):
        load_model(step)
    (step / "learner.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"the run is split over several processes.*load .*copy/model"):
        load_model(step)
    shutil.rmtree(copy / "model")
    with pytest.raises(CheckpointError, match=r"copy/model is not a model"):
        load_model(copy / "checkpoints" / "step-00000004")


def test_a_checkpoint_by_another_path_is_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load_model(run / "checkpoints" / "step-00000002").learner.export_state_dict()
    (tmp_path / "linked").symlink_to(run / "checkpoints" / "step-00000002")
    monkeypatch.chdir(run / "checkpoints" / "step-00000002")
    for path in (Path(), Path("../step-00000002"), tmp_path / "linked"):
        found = load_model(path).learner.export_state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_checkpoint_is_checked_as_its_model_is(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    step, config = copy / "checkpoints" / "step-00000002", read_json(copy / "model" / "config.json")
    (copy / "model").rename(copy / ".model.old")  # killed between the two renames of a new model
    assert load_model(step).provenance.trained["steps"] == "2 of 4"
    (copy / ".model.old").rename(copy / "model")
    config.pop("content_sha256", None)
    write_json(copy / "model" / "config.json", {**config, "format": 99})
    with pytest.raises(CheckpointError, match="newer than this one"):
        load_model(step)
    write_json(copy / "model" / "config.json", config)
    (copy / "model" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read as safetensors"):
        load_model(step)


def test_a_checkpoint_of_fine_tuning_or_at_an_address_is_refused(run: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    names = [f"{run.parent / 'sounds'}/{index}.wav,{'ab'[index % 2]}" for index in range(4)]
    labels.write_text("path,label\n" + "\n".join(names) + "\n")
    words = ["--steps", "1", "--device", "cpu", "--set", "training.batch_size=2"]
    assert main(["finetune", str(run), str(labels), "-o", str(tmp_path / "tuned"), *words]) == 0
    with pytest.raises(CheckpointError, match=r"a checkpoint of a fine-tuning run.*load .*tuned/model"):
        load_model(tmp_path / "tuned" / "checkpoints" / "step-00000001")
    with pytest.raises(CheckpointError, match="copy its run, and load the checkpoint from the copy"):
        unheard.load("s3://bucket/run/checkpoints/step-00000002")
