"""Released model folders: size, precision, card, description and the stored check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.stand_in import RELEASE

import unheard
from unheard.cli import main
from unheard.embedding.stored_check import example_sound
from unheard.errors import CheckpointError, ConfigError
from unheard.files import FILES, file_checksums, read_json, write_json
from unheard.weights import built_in
from unheard.weights.built_in import DEFAULT
from unheard.weights.release import read_release

SHIPPED = built_in.FOLDER / DEFAULT
LARGEST = 12_000_000  # bytes of the weights in the wheel


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this checkout does not contain the trained model")
def test_the_shipped_model_is_small_complete_and_reproduces_its_embedding() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size <= LARGEST
    release = read_release(SHIPPED / "release.json")
    assert release.name == DEFAULT and release.licence == "Apache-2.0" and release.teachers and release.scores
    assert "793,600 were trained" in release.training and release.training in (SHIPPED / "README.md").read_text()
    assert unheard.load().embed((np.zeros(16000, np.float32), 16000)).scene.shape == (960,)


def test_a_released_folder_is_float16_and_loads_as_float32(stand_in: Path) -> None:
    with safe_open(stand_in / "builtin" / DEFAULT / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} <= {torch.float16, torch.int64}  # noqa: SIM118
    model, run = unheard.load(), unheard.load(stand_in / "run")
    assert {each.dtype for each in model.encoder.parameters()} == {torch.float32}
    sound = (example_sound(16000), 16000)
    ours, theirs = model.embed(sound).scene, run.embed(sound).scene
    assert 0 < np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()


def test_card_and_description_name_licence_teachers_and_scores_and_no_path(stand_in: Path) -> None:
    folder = stand_in / "builtin" / DEFAULT
    card = (folder / "README.md").read_text()
    for text in ("# unheard-tiny", "under Apache-2.0", "| random-tiny | nothing |", "| drum-hit |", "0.710"):
        assert text in card
    assert read_release(folder / "release.json").teachers[0].supervision == "nothing"
    assert str(stand_in) not in (folder / "config.json").read_text()


def _with_other(folder: Path, file: str, name: str, change: float) -> None:
    """Change a tensor of a model folder, and correct the checksums."""
    tensors = load_file(folder / file)
    save_file({**tensors, name: (tensors[name].float() * change).to(tensors[name].dtype)}, folder / file)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, FILES: file_checksums(folder, list(config[FILES]))})


def test_a_model_that_does_not_reproduce_its_embedding_is_refused(stand_in: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stand_in / "builtin" / DEFAULT, tmp_path / "model")
    unheard.load(folder)
    _with_other(folder, "model.safetensors", "model.encoder.transformer.blocks.0.attn.qkv.weight", 1.5)
    with pytest.raises(CheckpointError, match=r"does not reproduce its stored embedding .*at most 0\.01 is accepted"):
        unheard.load(folder)


def test_a_damaged_or_incomplete_check_is_refused(stand_in: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stand_in / "builtin" / DEFAULT, tmp_path / "model")
    (folder / "check.safetensors").write_bytes(b"0")
    with pytest.raises(CheckpointError, match=r"check\.safetensors differs from its checksum"):
        unheard.load(folder)
    save_file({"wav": torch.zeros(10)}, folder / "check.safetensors")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, FILES: file_checksums(folder, list(config[FILES]))})
    with pytest.raises(CheckpointError, match="lacks its sound or its embedding"):
        unheard.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teachers": []}, "trained with 1 teachers .* lists 0"),
        ({"licence": ""}, "must hold the name and the licence"),
        ({"teachers": [{"name": "YAMNet"}]}, "name, supervision and licence of every teacher"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_incomplete_release_is_refused(stand_in: Path, tmp_path: Path, change: dict, message: str) -> None:
    file = tmp_path / "release.json"
    file.write_text(json.dumps({**RELEASE, **change}))
    with pytest.raises(ConfigError, match=message):
        unheard.export(stand_in / "run", tmp_path / "out", release=file)
    assert not (tmp_path / "out").exists()


def test_export_writes_it_and_refuses_other_options(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["export", str(stand_in / "run"), "--release", str(stand_in / "release.json")]
    assert main([*given, "-o", str(tmp_path / "out")]) == 0
    assert "model folder:" in capsys.readouterr().out
    assert main([*given, "-o", str(tmp_path / "x.onnx")]) == 2
    assert main([*given, "-o", str(tmp_path / "y"), "--code"]) == 2
    assert main(["export", str(stand_in / "run"), "--to", "unheard", "-o", str(tmp_path / "z")]) == 2
    assert "names the licence" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    assert main([*given, "-o", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine/notes.txt").exists()
