"""Runs at addresses: mirrored at every checkpoint, resumed from there, and loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.remote.store import Store

import unheard
from unheard.addresses import named
from unheard.cli import main
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError, RemoteError
from unheard.recipes import find_recipe
from unheard.remote.listing import files_below, is_file
from unheard.remote.reading import open_file
from unheard.remote.writing import upload_folder, working_place
from unheard.training.callbacks import Callbacks

SIZES = {"frames": 48, "embed_dim": 24, "depth": 1, "num_heads": 2}
SIZES |= {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SETTINGS = [*(f"model.{name}={size}" for name, size in SIZES.items()), "training.batch_size=4", "training.log_every=1"]
RECIPE = override(find_recipe("msm-mae"), [*SETTINGS, "training.checkpoint_every=2", "training.steps=6"])
SHORT = override(RECIPE, ["training.steps=2"])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", 0.1 * generator.standard_normal(16_000), 16000)
    return folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run without figures."""
    with monkeypatch.context() as patch:
        patch.setattr("unheard.view.run.finish", lambda run, store, log: log(f"figures in {run}"))
        yield


def losses(content: bytes) -> list[float]:
    return [json.loads(line)["loss"] for line in content.decode().splitlines()]


def content(address: str) -> bytes:
    with open_file(address) as file:
        return file.read()


class StoppedError(Exception):
    """Ends a run after a checkpoint."""


def stopping_after(step: int, lines: list[str] | None = None) -> Callbacks:
    def stop(run: Path) -> None:
        if (run / f"checkpoints/step-{step:08d}").is_dir():
            raise StoppedError

    return Callbacks(on_save=stop, log=[].append if lines is None else lines.append)


@pytest.mark.slow
def test_a_run_at_an_address_is_that_of_a_folder(sounds: Path, store: Store, tmp_path: Path, place: Path) -> None:
    out = "s3://sounds/runs/first"
    run = unheard.pretrain(sounds, out, SHORT, device="cpu")
    unheard.pretrain(sounds, tmp_path / "run", SHORT, device="cpu")
    assert run.finished and named(run.folder) == out and not any((place / "out").iterdir())
    local = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    kept = {key.removeprefix("runs/first/") for key in store.keys("runs/first/")}
    assert {name for name in kept ^ local if "tensorboard" not in name} == set()
    assert losses(store.get("runs/first/metrics.jsonl")) == losses((tmp_path / "run/metrics.jsonl").read_bytes())
    one, other = unheard.load(out, device="cpu"), unheard.load(tmp_path / "run", device="cpu")
    np.testing.assert_array_equal(one.embed(sounds / "0.wav").scene, other.embed(sounds / "0.wav").scene)
    assert one.origin == out
    assert main(["data", "verify", out]) == 0
    with pytest.raises(ConfigError, match=rf"^{out} exists and is not empty; .* continue it with --resume"):
        unheard.pretrain(sounds, out, SHORT, device="cpu")
    assert unheard.pretrain(sounds, out, override(SHORT, ["training.steps=2"]), device="cpu", overwrite=True).total == 2
    assert "runs/first/checkpoints/step-00000006/state.json" not in store.keys("runs/first")


@pytest.mark.parametrize("machine", ["the same", "another"])
def test_a_stopped_run_is_resumed_with_the_same_losses(
    sounds: Path, memory: str, tmp_path: Path, place: Path, machine: str
) -> None:
    with pytest.raises(StoppedError):
        unheard.pretrain(sounds, memory, RECIPE, device="cpu", report=stopping_after(4))
    assert is_file(f"{memory}/checkpoints/step-00000004/state.json") and is_file(f"{memory}/model/config.json")
    if machine == "another":
        shutil.rmtree(place)
    lines: list[str] = []
    run = unheard.resume(memory, device="cpu", report=Callbacks(log=lines.append))
    assert run.finished and named(run.folder) == memory
    unheard.pretrain(sounds, tmp_path / "run", RECIPE, device="cpu")
    assert losses(content(f"{memory}/metrics.jsonl")) == losses((tmp_path / "run/metrics.jsonl").read_bytes())
    assert unheard.resume(memory, device="cpu", report=Callbacks(log=lines.append)).finished  # nothing is left to do
    assert lines[-1] == f"{memory} is finished: 6 of 6 steps" and not any(str(place) in line for line in lines)


def test_a_checkpoint_that_cannot_be_uploaded_does_not_end_the_run(
    sounds: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("unheard.remote.mirror.upload", _broken)
        with pytest.raises(RemoteError, match=rf"no network; the run is kept in .*--resume {memory} uploads it"):
            unheard.pretrain(sounds, memory, RECIPE, device="cpu", report=Callbacks(log=lines.append))
    assert sum("no network; the next checkpoint is tried again" in line for line in lines) == 3
    assert working_place(memory).is_dir()
    assert unheard.resume(memory, device="cpu").finished
    assert is_file(f"{memory}/finished.json") and not working_place(memory).exists()


def _broken(file: Path, address: str) -> None:
    raise RemoteError("no network")


def test_only_a_complete_checkpoint_has_its_state(sounds: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that ends in a checkpoint leaves the one before to resume from."""
    uploaded: list[str] = []

    def upload(file: Path, address: str) -> None:
        uploaded.append(address.removeprefix(f"{memory}/"))

    monkeypatch.setattr("unheard.remote.mirror.upload", upload)
    unheard.pretrain(sounds, memory, SHORT, device="cpu")
    state = uploaded.index("checkpoints/step-00000002/state.json")
    assert {"checkpoints/step-00000002/learner.safetensors", "model/model.safetensors"} <= set(uploaded[:state])
    assert uploaded.index("model/config.json") > uploaded.index("model/model.safetensors")


def test_what_is_no_run_is_named(sounds: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_folder(sounds, memory, ["0.wav"])
    with pytest.raises(ConfigError, match=rf"{memory} is not a run folder, so --overwrite does not delete it"):
        unheard.pretrain(sounds, memory, RECIPE, device="cpu", overwrite=True)
    assert list(files_below(memory)) == ["0.wav"]
    for resumed in (memory, f"{memory}/none"):
        with pytest.raises(CheckpointError, match=rf"there is no run at {resumed}"):
            unheard.resume(resumed, device="cpu")
    with pytest.raises(CheckpointError, match=rf"{memory} is not a model"):
        unheard.load(memory)
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0), ("MASTER_ADDR", "a"), ("MASTER_PORT", 1)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="torchrun starts need a run folder that all of them share"):
        unheard.pretrain(sounds, f"{memory}/run", RECIPE, device="cpu")
