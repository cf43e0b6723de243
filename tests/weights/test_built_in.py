"""The built-in trained model: it is the default, its name works everywhere, and its absence is one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import unheard
from unheard import hear
from unheard.cli import main
from unheard.errors import CheckpointError
from unheard.weights.built_in import DEFAULT


def test_it_is_the_default_of_load_and_of_the_hear_api(stand_in: Path) -> None:
    model, module = unheard.load(), hear.load_model(device="cpu")
    assert model.origin == DEFAULT and model.description.startswith(DEFAULT)
    wav = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    expected = model.embed((wav[0].numpy(), 16000)).scene
    assert torch.equal(hear.get_scene_embeddings(wav, module)[0], torch.from_numpy(expected))


def test_embed_without_a_model_uses_it_and_prints_one_line(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds, files = stand_in / "sounds", sorted((stand_in / "sounds").rglob("*.wav"))[:2]
    for name, given in (("a", [sounds]), ("b", [DEFAULT, sounds]), ("c", files)):
        assert main(["embed", *map(str, given), "-o", str(tmp_path / f"{name}.npz")]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("model: ")]
        assert lines == (
            [] if name == "b" else [f"model: {DEFAULT}, built in; to choose another, give MODEL before AUDIO"]
        )
    table = tmp_path / "parts.csv"
    table.write_text(f"path,start,end\n{files[0]},0,0.5\n")
    assert main(["embed", "--segments", str(table), "-o", str(tmp_path / "d.npz")]) == 0
    assert main(["search", str(tmp_path / "a.npz"), "--like", str(files[0]), "-k", "3"]) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("embed runs/frist {sounds} -o e.npz", "there is no model runs/frist"),
        ("embed {run} -o e.npz", "give sound files or folders"),
        ("embed -o e.npz", "give sound files or folders"),
        ("embed nowhere -o e.npz", "nowhere"),
        ("embed {empty} {sounds} -o e.npz", "no audio in"),
    ],
)
def test_wrong_arguments_of_embed_are_one_clear_line(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    (empty := tmp_path / "empty").mkdir()
    words = given.format(sounds=stand_in / "sounds", run=stand_in / "run", empty=empty).split()
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_its_name_works_with_every_verb_that_takes_a_model(stand_in: Path, tmp_path: Path) -> None:
    sound = next((stand_in / "sounds").rglob("*.wav"))
    for verb, out in (("reconstruct", "r.png"), ("attention", "a.png")):
        assert main([verb, DEFAULT, str(sound), "-o", str(tmp_path / out)]) == 0
    assert main(["export", DEFAULT, "-o", str(tmp_path / "hf")]) == 0
    labels = str(stand_in / "sounds/labels.csv")
    assert main(["finetune", DEFAULT, labels, "-o", str(tmp_path / "clf"), "--steps", "2", "--batch-size", "4"]) == 0
    assert json.loads((tmp_path / "clf/config.json").read_text())["model"] == DEFAULT


def test_models_lists_it_with_scores_and_licence(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "trained, Apache-2.0" in shown and "drum-hit" in shown and "random-tiny" in shown
    assert main(["models", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["built_in"][0]
    assert row["name"] == DEFAULT and row["release"]["scores"][0]["value"] == 0.71


def test_an_installation_without_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unheard.weights.built_in.FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="does not contain the model unheard-tiny .* random-tiny"):
        unheard.load()
    assert main(["models"]) == 0
    assert "does not contain" in capsys.readouterr().out
