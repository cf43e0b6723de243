"""A fine-tuned run predicts, averages its models, and is scored on its test clips, in Python and the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score

import unheard
from unheard.api import report
from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.embedding.classify import classifier_of
from unheard.embedding.loading import load
from unheard.errors import AudioError, CheckpointError, ConfigError
from unheard.files import read_json, write_json
from unheard.finetuning.ensemble import ClassifierEnsemble, open_finetuned
from unheard.finetuning.scores import score_run
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.view.finetuned import finalise
from unheard.weights.checkpoint import Provenance, save_model

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
QUICK = [
    "training.batch_size=8",
    "training.steps=40",
    "training.learning_rate=5e-3",
    "training.log_every=20",
    "augment.spec_mixup_prob=0",
]
TONES = (0.1, 0.4, 1.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for number in range(36):
        time = np.arange(4000 + 2000 * (number % 4))
        wav = 0.2 * np.sin(time * TONES[number % 3]) + 0.01 * rng.standard_normal(len(time))
        soundfile.write(place / f"{number}.wav", np.stack([wav, 0 * wav], axis=1), 16000)
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    rows = [f"{i}.wav,{'abc'[i % 3]},{'test' if i >= 24 else 'train'},{i // 3 % 3}" for i in range(36)]
    (place / "labels.csv").write_text("path,label,split,fold\n" + "\n".join(rows) + "\n")
    (place / "folds.csv").write_text(
        "path,label,fold\n" + "\n".join(",".join(row.split(",")[i] for i in (0, 1, 3)) for row in rows) + "\n"
    )
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    tuned = unheard.finetune(folder / "model", folder / "labels.csv", folder / "run", settings=QUICK, device="cpu")
    assert tuned.finished and tuned.scores is not None
    return tuned.folder


@pytest.fixture(scope="module")
def stereo(folder: Path) -> Path:
    settings = [*QUICK, "training.steps=6", 'task.channels=["left","right","mid"]']
    return unheard.finetune(
        folder / "model", folder / "folds.csv", folder / "stereo", settings=settings, device="cpu"
    ).folder


def test_tones_are_classified_and_named_in_order(run: Path, folder: Path) -> None:
    tuned = open_finetuned(run)
    predicted = tuned.predict(folder / "1.wav")
    assert next(iter(predicted)) == "b" and list(predicted.values()) == sorted(predicted.values(), reverse=True)
    assert sum(predicted.values()) == pytest.approx(1, abs=1e-5)
    wav, rate = soundfile.read(folder / "1.wav", dtype="float32")
    assert tuned.predict([(wav.T, rate), folder / "0.wav"])[0] == pytest.approx(predicted, abs=1e-5)
    scores = load(run).classify(folder / "1.wav")
    assert dict(zip(tuned.labels, scores, strict=True)) == pytest.approx(predicted, abs=1e-6)


def test_test_clips_are_scored_and_written_down(run: Path) -> None:
    stored = json.loads((run / "scores.json").read_text())
    assert (
        stored["metric"] == "balanced_accuracy"
        and stored["mean"] > 0.9
        and stored["low"] <= stored["mean"] <= stored["high"]
    )
    assert [part["clips"] for part in stored["parts"]] == [12] and np.sum(stored["confusion"]) == 12
    classes = list(csv.DictReader((run / "classes.csv").read_text().splitlines()))
    assert [row["class"] for row in classes] == ["a", "b", "c"] and all(row["clips"] == "4" for row in classes)
    predictions = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert len(predictions) == 12 and {Path(row["path"]).name for row in predictions} == {
        f"{i}.wav" for i in range(24, 36)
    }
    right = [
        max(row.keys() - {"path", "label"}, key=lambda name: float(row[name])) == f"score {row['label']}"
        for row in predictions
    ]
    assert np.mean(right) == pytest.approx(stored["means"]["accuracy"])
    assert (run / "figures" / "confusion.png").stat().st_size > 1000


def test_logits_of_channels_and_folds_are_averaged(stereo: Path, folder: Path) -> None:
    tuned = open_finetuned(stereo)
    chosen = [classifier_of(model).config.channel for model in tuned.members]
    assert chosen == [name for name in ("left", "right", "mid") for _ in range(3)]
    sound = folder / "4.wav"
    left, right = (soundfile.read(sound, dtype="float32")[0][:, side] for side in (0, 1))
    channels = {"left": left, "right": right, "mid": (left + right) / 2}
    alone = [
        next(ClassifierEnsemble([model]).logits([(channels[channel], 16000)]))[1]
        for model, channel in zip(tuned.members, chosen, strict=True)
    ]
    assert np.allclose(next(tuned.logits([sound]))[1], np.mean(alone, axis=0), atol=1e-4)


def test_folds_are_scored_each_by_the_models_that_never_saw_them(stereo: Path) -> None:
    stored = json.loads((stereo / "scores.json").read_text())
    assert [part["part"] for part in stored["parts"]] == ["fold-0", "fold-1", "fold-2"]
    values = [part["balanced_accuracy"] for part in stored["parts"]]
    assert stored["mean"] == pytest.approx(np.mean(values)) and stored["spread"] == pytest.approx(np.std(values))
    assert sum(part["clips"] for part in stored["parts"]) == 36


def test_bad_files_are_reported_and_left_out(run: Path, stereo: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    for place in (run, stereo):
        skipped: list[str] = []
        sounds = [str(folder / "0.wav"), str(tmp_path / "bad.wav"), str(folder / "1.wav"), str(folder / "1.wav")]
        found = list(
            open_finetuned(place).scores(sounds, lambda sound, error, stored=skipped: stored.append(str(sound)))
        )
        assert [sound for sound, _ in found] == [sounds[0], sounds[2], sounds[3]] and set(skipped) == {sounds[1]}
        with pytest.raises(AudioError, match=r"bad\.wav"):
            list(open_finetuned(place).scores(sounds))


def test_what_cannot_predict_says_so(folder: Path, stereo: Path) -> None:
    with pytest.raises(ConfigError, match="no classifier"):
        open_finetuned(folder / "model")
    state = next((stereo / "members" / "fold-0-left" / "checkpoints").glob("step-*/state.json"))
    kept = state.read_text()
    write_json(state, {**read_json(state), "step": 5})
    with pytest.raises(CheckpointError, match="not trained yet"):
        open_finetuned(stereo)
    state.write_text(kept)


def test_parts_of_files_are_scored_as_parts(folder: Path, tmp_path: Path) -> None:
    long = np.concatenate([soundfile.read(folder / f"{i}.wav", dtype="float32")[0][:4000] for i in (0, 1, 2) * 6])
    soundfile.write(folder / "long.wav", long, 16000)
    rows = [f"long.wav,{'abc'[i % 3]},{i / 4},{(i + 1) / 4},{'test' if i >= 12 else 'train'}" for i in range(18)]
    (folder / "parts.csv").write_text("path,label,start,end,split\n" + "\n".join(rows) + "\n")
    tuned = unheard.finetune(folder / "model", folder / "parts.csv", tmp_path / "run", settings=QUICK, device="cpu")
    assert tuned.scores is not None and tuned.scores.mean > 0.9
    predicted = list(csv.DictReader((tuned.folder / "predictions.csv").read_text().splitlines()))
    assert [(float(row["start"]), float(row["end"])) for row in predicted] == [
        (i / 4, (i + 1) / 4) for i in range(12, 18)
    ]


def test_scores_of_several_labels_count_known_classes_only(folder: Path, tmp_path: Path) -> None:
    names = ["a", "b", "a|b", ""]
    rows = [f"{i}.wav,{names[i % 4]},{'b' if i % 3 == 0 else ''},{'test' if i > 20 else 'train'}" for i in range(36)]
    (folder / "several.csv").write_text("path,label,known,split\n" + "\n".join(rows) + "\n")
    settings = [*QUICK, "training.steps=3"]
    tuned = unheard.finetune(
        folder / "model", folder / "several.csv", tmp_path / "run", "openmic", settings, device="cpu"
    )
    stored = tuned.scores
    assert stored is not None and stored.metric == "mAP" and not stored.confusion
    predicted = np.array(
        [
            [float(row["score a"]), float(row["score b"])]
            for row in csv.DictReader((tuned.folder / "predictions.csv").read_text().splitlines())
        ]
    )
    clips = list(range(21, 36))
    known = [i % 3 != 0 or "a" in names[i % 4] for i in clips]
    truth = np.array(["a" in names[i % 4] for i in clips]).astype(np.int64)
    assert stored.classes[0]["annotated"] == sum(known)
    assert stored.classes[0]["average precision"] == pytest.approx(
        average_precision_score(truth[known], predicted[known, 0])
    )


def test_without_test_clips_nothing_is_scored(folder: Path, tmp_path: Path) -> None:
    (folder / "all.csv").write_text(
        "path,label,split\n" + "\n".join(f"{i}.wav,{'abc'[i % 3]},train" for i in range(12)) + "\n"
    )
    tuned = unheard.finetune(
        folder / "model", folder / "all.csv", tmp_path / "run", settings=[*QUICK, "training.steps=1"], device="cpu"
    )
    assert (
        tuned.scores is None
        and score_run(tuned.folder) is None
        and set(tuned.predict(folder / "0.wav")) == {"a", "b", "c"}
    )


def test_the_test_clips_are_scored_on_the_device_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr("unheard.view.finetuned.score_run", lambda run, device, track: devices.append(device))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device in ("auto", "cpu"):
        finalise(tmp_path, True, None, device)
    assert devices == ["cuda", "cpu"]


def test_a_page_shows_the_run(run: Path, stereo: Path) -> None:
    for place, models in ((run, 1), (stereo, 9)):
        page = report(place).read_text()
        assert page.count("loss, learning rate and speed over the steps</figcaption>") == models
        assert "balanced accuracy" in page and "<th>recall" in page and "Confusion matrix" in page


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = [
        "finetune",
        str(folder / "model"),
        str(folder / "labels.csv"),
        "-o",
        str(out),
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--json",
    ]
    assert main(command) == 0
    stored = json.loads(capsys.readouterr().out)
    assert stored["finished"] and stored["scores"]["metric"] == "balanced_accuracy"
    assert main(command) == 2 and "--overwrite" in capsys.readouterr().err
    assert main(["finetune", "--resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stored
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    files = [str(folder / "0.wav"), str(tmp_path / "bad.wav")]
    assert main(["predict", str(out), *files, "-o", str(tmp_path / "out.csv"), "--top", "2", "--json", "--strict"]) == 1
    predicted = json.loads(capsys.readouterr().out)
    assert len(predicted["predictions"][0]["scores"]) == 2 and predicted["skipped"][0]["path"].endswith("bad.wav")
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert sum(float(row[f"score {name}"]) for name in "abc") == pytest.approx(1, abs=1e-3)
    assert main(["data", "verify", str(tmp_path / "out.csv")]) == 0
    (tmp_path / "out.csv").write_text((tmp_path / "out.csv").read_text().replace("0.", "0.0", 1))
    assert main(["data", "verify", str(tmp_path / "out.csv")]) == 2
    assert "out.csv differs from its checksum" in capsys.readouterr().out
    for wrong, hint in (
        (["finetune"], "needs a model, labels and an output"),
        (["finetune", "--resume", str(out), "--steps", "3"], "takes its settings from the run"),
        ([*command[:4], str(tmp_path / "x"), "--recipe", "esc5"], "did you mean esc50"),
        ([*command[:4], str(tmp_path / "x"), "--set", "augment.mixup=1"], "no setting 'augment.mixup'"),
        (["finetune", "--resume", str(tmp_path)], "no run at"),
        (["predict", str(folder / "model"), files[0]], "no classifier"),
    ):
        assert main(wrong) == 2
        assert hint in capsys.readouterr().err
    assert main(["recipes", "--published", "openmic", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {row["task"] for row in scores} == {"openmic"} and {row["protocol"] for row in scores} == {
        "fine-tuned",
        "linear probe",
    }
    assert [row["percent"] for row in scores[:2]] == [85.3, 85.3] and scores[0]["model"].startswith("MaskSpec")
    assert main(["recipes", "--published", "openmike"]) == 2
    assert "available: audioset, audioset20k, beehive_states" in capsys.readouterr().err
    assert main(["recipes", "--finetune", "--json"]) == 0
    assert {"small", "esc50", "audiomae-audioset"} <= {recipe["name"] for recipe in json.loads(capsys.readouterr().out)}


def test_a_model_that_is_fine_tuned_again_begins_with_its_encoder(run: Path, folder: Path, tmp_path: Path) -> None:
    settings = [*QUICK, "training.steps=1", "training.learning_rate=0"]
    again = unheard.finetune(run, folder / "labels.csv", tmp_path / "again", settings=settings, device="cpu")
    ours, theirs = (load(place).encoder.state_dict() for place in (again.folder, run))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
