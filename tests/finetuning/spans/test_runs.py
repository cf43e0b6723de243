"""Detection with fine-tuned runs: stored thresholds and windows, background, and the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.finetuning.conftest import BASE, QUICK

import unheard
from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.embedding.loading import load
from unheard.errors import ConfigError
from unheard.finetuning.ensemble import open_finetuned
from unheard.finetuning.model_selection import detection_thresholds
from unheard.finetuning.spans.classifier import WindowClassifier, open_classifier
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, save_model

TONES = {"low": 0.1, "high": 1.2}
RATE = 16000


def tone(name: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    wav = 0.2 * np.sin(np.arange(samples) * TONES[name]) if name in TONES else np.zeros(samples)
    return np.asarray(wav + 0.01 * rng.standard_normal(samples))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two tones and of background, a run that was fine-tuned on them, and a recording with its truth."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    rows = ["path,label,split"]
    for number in range(36):
        name = ("low", "high", "background")[number % 3]
        soundfile.write(folder / f"{number}.wav", tone(name, 4000, rng), RATE)
        rows.append(f"{number}.wav,{name},{'valid' if number < 12 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    save_model(folder / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    settings = [*QUICK, "training.steps=60"]
    unheard.finetune(folder / "model", folder / "labels.csv", folder / "run", settings=settings, device="cpu")
    (folder / "recordings").mkdir()
    for name in ("a", "b"):
        names = ["background", "low", "background", "high", "background"]
        wav = np.concatenate([tone(each, RATE, rng) for each in names])
        soundfile.write(folder / "recordings" / f"{name}.wav", wav, RATE)
        (folder / "recordings" / f"{name}.txt").write_text("1\t2\tlow\n3\t4\thigh\n")
    return folder


def test_a_run_stores_its_window_and_thresholds(place: Path) -> None:
    classifier = open_classifier(place / "run", "cpu")
    assert isinstance(classifier, WindowClassifier)
    assert classifier.labels == ("background", "high", "low") and not classifier.multilabel
    assert classifier.window == pytest.approx(0.26)  # clips of 0.25 s; the encoder has 0.32 s
    assert all(value is not None and 0 < value < 1 for value in classifier.thresholds)
    assert load(str(place / "run"), "cpu").classifier.config.thresholds == classifier.thresholds


def test_a_run_detects_its_classes_and_background_is_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordings = str(place / "recordings")
    arguments = [str(place / "run"), recordings, "--spans", "--threshold", "auto", "--truth", recordings]
    assert main(["predict", *arguments, "--hop", "0.06", "--max-gap", "0.2", "--json", "--device", "cpu"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [span["label"] for span in values["detections"]] == ["low", "high"] * 2
    assert values["scores"]["f1"] == 1 and values["scores"]["segment_map"] == 1
    assert values["scores"]["recordings"] == 2 and values["scores"]["interval"] == [1, 1]
    assert main(["predict", *arguments, "-o", str(place / "spans.txt"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "event F1" in out and "2 recordings with annotations" in out and "spans.txt" in out
    assert main(["data", "import", "raven", str(place / "spans.txt"), "-o", str(place / "again.csv")]) == 0


def test_a_window_has_the_scores_of_its_samples(place: Path) -> None:
    classifier = open_classifier(place / "run", "cpu")
    wav, _ = soundfile.read(place / "recordings" / "a.wav", dtype="float32")
    windows = [wav[:3000], wav[RATE : RATE + 4000]]
    model = load(str(place / "run"), "cpu")
    expected = [model.classify((window, RATE)) for window in windows]
    assert np.allclose(classifier.scores(windows), expected, atol=1e-6)


def test_a_window_of_the_encoder_is_encoded_at_once(place: Path) -> None:
    """32 frames of 160 samples are 0.32 s, but 5120 samples give 33 frames."""
    classifier = open_classifier(place / "run", "cpu")
    wav, _ = soundfile.read(place / "recordings" / "a.wav", dtype="float32")
    model = load(str(place / "run"), "cpu")
    assert len(wav[:5120]) == 0.32 * RATE and model.frontend.num_frames(5119) == 32
    assert np.allclose(classifier.scores([wav[:5120]])[0], model.classify((wav[:5119], RATE)), atol=1e-6)


def test_a_run_without_thresholds_is_refused(place: Path, tmp_path: Path) -> None:
    saved = load(str(place / "run"), "cpu").saved
    assert saved.classifier is not None
    saved.classifier.config = replace(saved.classifier.config, thresholds=(), window=None)
    save_model(tmp_path / "old", saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
    with pytest.raises(ConfigError, match="this model has no thresholds: it was fine-tuned without validation clips"):
        unheard.detect(tmp_path / "old", place / "recordings", threshold="auto")
    found = unheard.detect(tmp_path / "old", place / "recordings", threshold=0.5)
    assert found.plan.window == pytest.approx(0.32) and found.spans


def test_thresholds_have_the_highest_f1() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((60, 3)), (rng.random((60, 3)) < 0.3).astype(float)
    target[:, 2] = 0
    found = detection_thresholds(logits, target, np.ones((60, 3)), "sigmoid")
    score = 1 / (1 + np.exp(-logits))

    def f1(k: int, threshold: float) -> float:
        claimed = score[:, k] >= threshold
        return float(2 * (claimed & (target[:, k] > 0)).sum() / (claimed.sum() + target[:, k].sum()))

    assert found[2] is None
    for k in (0, 1):
        assert found[k] is not None
        assert f1(k, float(found[k] or 0)) == pytest.approx(max(f1(k, value) for value in score[:, k]))


def test_in_a_model_of_one_class_only_the_best_class_counts_for_a_threshold() -> None:
    """Class 1 has 0.4 in its only clip, where class 0 has 0.6: no threshold of class 1 can find it."""
    logits = np.log(np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]]))
    first, second = detection_thresholds(logits, np.array([[0, 1], [0, 1], [1, 0.0]]), np.ones((3, 2)), "softmax")
    assert first == pytest.approx(0.75) and second == pytest.approx(0.6)


def test_a_run_of_single_channels_is_refused(place: Path) -> None:
    settings = [*QUICK, "training.steps=2", 'task.channels=["left","right"]']
    run = unheard.finetune(place / "model", place / "labels.csv", place / "two", settings=settings, device="cpu").folder
    with pytest.raises(ConfigError, match="the input of this classifier is left, right of a sound"):
        open_classifier(run, "cpu")


def test_predictions_in_bf16_are_those_of_the_model_in_bf16(place: Path, tmp_path: Path) -> None:
    run, sound, out = place / "run", place / "0.wav", tmp_path / "scores.csv"
    assert main(["predict", str(run), str(sound), "-o", str(out), "--precision", "bf16"]) == 0
    with out.open(newline="") as file:
        row = next(csv.DictReader(file))
    exact, half = open_finetuned(run).predict(sound), open_finetuned(run, precision="bf16").predict(sound)
    assert exact != half
    assert {name: float(row[f"score {name}"]) for name in half} == pytest.approx(half, abs=1e-5)


def test_detections_in_bf16_are_stored_as_such(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, recordings, out = str(place / "run"), str(place / "recordings"), tmp_path / "spans.csv"
    given = ["predict", run, recordings, "--spans", "-o", str(out)]
    assert main([*given, "--precision", "bf16"]) == 0
    assert json.loads((tmp_path / "spans.csv.json").read_text())["identity"]["precision"] == "bf16"
    assert main([*given, "--resume"]) == 2
    errors = capsys.readouterr().err
    assert "--precision is bf16, now float32" in errors and "model is different" not in errors
    with pytest.raises(ConfigError, match="is loaded already"):
        unheard.detect(open_classifier(run), recordings, precision="bf16")
