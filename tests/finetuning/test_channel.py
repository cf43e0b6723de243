"""A classifier that was fine-tuned on one channel reads that channel wherever it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.embedding.classify import classify_many
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load
from unheard.errors import ConfigError
from unheard.finetuning.ensemble import open_finetuned
from unheard.finetuning.spans.classifier import open_classifier
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, save_model

SIZES = ["frames=32", "embed_dim=24", "depth=1", "num_heads=2"]
DECODER = ["decoder_embed_dim=16", "decoder_depth=1", "decoder_num_heads=2"]
SETTINGS = ["training.batch_size=8", "training.steps=6", 'task.channels=["right"]']


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("right"), np.random.default_rng(0)
    for number in range(12):
        time = np.arange(6000)
        left, right = (0.2 * np.sin(time * (number % 2 + 1) * rate) for rate in (0.1, 0.3))
        noise = 0.01 * rng.standard_normal((len(time), 2))
        soundfile.write(place / f"{number}.wav", np.stack([left, right], axis=1) + noise, 16000)
    recipe = override(find_recipe("msm-mae"), [f"model.{size}" for size in (*SIZES, *DECODER)])
    save_model(place / "model", build(recipe), recipe, Statistics((-9.0,), (4.0,)), Provenance())
    rows = [f"{i}.wav,{'ab'[i % 2]},{'valid' if i >= 8 else 'train'}" for i in range(12)]
    (place / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    unheard.finetune(place / "model", place / "labels.csv", place / "run", settings=SETTINGS, device="cpu")
    return place


@pytest.fixture(scope="module")
def right(folder: Path) -> dict[str, float]:
    """Scores of the right channel alone."""
    wav = soundfile.read(folder / "4.wav", dtype="float32")[0]
    model = load(folder / "run" / "model")
    assert isinstance(model, Model)
    found = model.predict((wav[:, 1], 16000))
    assert found != model.predict((wav.mean(axis=1), 16000))
    return found


@pytest.mark.parametrize("part", ["run", "run/model"])
def test_files_and_arrays_are_read_from_that_channel(folder: Path, right: dict[str, float], part: str) -> None:
    model, sound = load(folder / part), folder / "4.wav"
    assert isinstance(model, Model)
    wav = soundfile.read(sound, dtype="float32")[0].T
    assert open_finetuned(folder / part).predict(sound) == model.predict(sound) == right
    assert model.predict((wav, 16000)) == right
    assert model.predict([sound, folder / "5.wav", sound])[::2] == [right, right]


def test_a_file_that_cannot_be_read_is_left_out_by_name(folder: Path) -> None:
    model, bad = load(folder / "run"), folder / "labels.csv"
    assert isinstance(model, Model)
    sounds, left = [folder / "4.wav", bad, folder / "5.wav"], []
    kept = [sound for sound, _ in classify_many(model, sounds, lambda sound, error: left.append(sound))]
    assert kept == [sounds[0], sounds[2]] and left == [bad]


@pytest.mark.parametrize("part", ["run", "run/model"])
def test_detection_refuses_it(folder: Path, part: str) -> None:
    with pytest.raises(ConfigError, match=r"right of a sound.*task\.channels"):
        open_classifier(folder / part)


def test_an_exported_folder_keeps_channel_window_and_thresholds(
    folder: Path, right: dict[str, float], tmp_path: Path
) -> None:
    unheard.export(folder / "run", tmp_path / "hf")
    before, after = load(folder / "run"), load(tmp_path / "hf")
    assert isinstance(before, Model) and isinstance(after, Model)
    assert before.classifier is not None and after.classifier is not None
    assert after.classifier.config == before.classifier.config and before.classifier.config.thresholds
    assert after.predict(folder / "4.wav") == pytest.approx(right, abs=1e-6)
    assert "channel 'right'" in (tmp_path / "hf" / "README.md").read_text()
