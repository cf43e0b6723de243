"""Exported folders load with Hugging Face transformers, with this package and without it, and back into it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import unheard
from unheard.cli import main
from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError, ConfigError
from unheard.weights.export.bundle import bundled_code
from unheard.weights.export.hf_folder import hf_card
from unheard.weights.layouts import LAYOUTS

LENGTHS = (1, 1600, 10240, 52001)

WITHOUT_THE_PACKAGE = """
import sys, numpy as np
sys.modules["unheard"] = None
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
folder, out, kind = sys.argv[1:]
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
auto = AutoModel if kind == "log-mel" else AutoModelForAudioClassification
model = auto.from_pretrained(folder, trust_remote_code=True).eval()
waves = list(np.load(out + ".in.npz").values())
found = model(**extractor(waves, sampling_rate=extractor.sampling_rate, return_tensors="pt"))
np.save(out, (found.pooler_output if kind == "log-mel" else found.logits).detach().numpy())
"""


def made(kind: str) -> Model:
    spec = importlib.util.spec_from_file_location("models", Path(__file__).with_name("models.py"))
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Model(module.saved_model(kind))


def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in LENGTHS]


@pytest.fixture(scope="module")
def registered() -> Any:
    pytest.importorskip("transformers")
    return importlib.import_module("unheard.hf")


@pytest.mark.parametrize("kind", ["log-mel", "kaldi-fbank", "maskspec"])
def test_auto_model_equals_embed_for_every_row_of_a_batch(registered: Any, kind: str, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    model, sounds = made(kind), waves()
    model.save_pretrained(tmp_path / "hf")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "hf")
    other = AutoModel.from_pretrained(tmp_path / "hf").eval()
    with torch.inference_mode():
        found = other(**extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt"))
    for row, wav in enumerate(sounds):
        expected = model.embed((wav, model.sample_rate))
        steps = len(expected.frames)
        np.testing.assert_allclose(found.last_hidden_state[row, :steps], expected.frames, atol=1e-4)
        assert not found.last_hidden_state[row, steps:].any()
        np.testing.assert_allclose(found.pooler_output[row], expected.scene, atol=1e-4)
    assert other.config.hidden_size == model.embedding_size
    assert other.half().config.num_hidden_layers == 1
    with pytest.raises(ValueError, match="resample"):
        extractor(sounds[0], sampling_rate=8000)


def test_integers_are_scaled_and_padding_on_either_side_is_left_out(registered: Any, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    model, sounds = made("log-mel"), waves()
    model.save_pretrained(tmp_path / "hf")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "hf")
    other = AutoModel.from_pretrained(tmp_path / "hf").eval()
    expected = [model.embed((wav, model.sample_rate)) for wav in sounds]
    with torch.inference_mode():
        extractor.padding_side = "left"
        left = other(**extractor(sounds, return_tensors="pt"))
        for row, found in enumerate(expected):
            np.testing.assert_allclose(left.pooler_output[row], found.scene, atol=1e-4)
            np.testing.assert_allclose(left.last_hidden_state[row, : len(found.frames)], found.frames, atol=1e-4)
        integers = (sounds[2] * 2**15).astype(np.int16)
        np.testing.assert_allclose(extractor(integers)["input_values"][0], integers / 2**15)
        for bad, message in ((integers * 1.0, "divide them by 32768"), (sounds[2] * np.nan, "not finite")):
            with pytest.raises(ValueError, match=message):
                extractor(bad)
        with pytest.raises(ValueError, match="int64 values"):
            extractor(integers.astype(int))
        with pytest.raises(ValueError, match="zeros within"):
            other(torch.zeros(1, 4), torch.tensor([[1, 0, 1, 1]]))


@pytest.mark.parametrize("kind", ["kaldi-fbank", "maskspec"])
def test_the_pipeline_classifies(registered: Any, kind: str, tmp_path: Path) -> None:
    from transformers import pipeline

    model, wav = made(kind), waves()[2]
    model.save_pretrained(tmp_path / "hf")
    independent = kind == "kaldi-fbank"  # transformers before 5.23 needs the function, which the card names
    function = {"function_to_apply": "sigmoid"} if independent else {}
    assert ('function_to_apply="sigmoid"' in (tmp_path / "hf" / "README.md").read_text()) == independent
    found = pipeline("audio-classification", model=str(tmp_path / "hf"))(wav, **function)
    expected = dict(zip(model.labels, model.classify((wav, model.sample_rate)), strict=True))
    assert {each["label"] for each in found} == set(model.labels)
    for each in found:
        assert each["score"] == pytest.approx(expected[each["label"]], abs=1e-4)


def test_training_with_transformers_changes_what_unheard_loads(registered: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    model, wav = made("maskspec"), waves()[3]
    model.save_pretrained(tmp_path / "hf")
    other = AutoModelForAudioClassification.from_pretrained(tmp_path / "hf")
    batch, labels = torch.from_numpy(wav)[None], torch.tensor([2])
    with pytest.raises(ValueError, match=r"class numbers \(B,\), not of the shape \(1, 3\)"):
        other(input_values=batch, labels=torch.eye(3)[2:])
    loss = other(input_values=batch, labels=labels).loss
    loss.backward()
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1)
    optimiser.step()
    other.eval().save_pretrained(tmp_path / "tuned")
    back = unheard.load(tmp_path / "tuned")
    expected = other(input_values=batch).logits.softmax(-1)[0].detach()
    np.testing.assert_allclose(back.classify((wav, model.sample_rate)), expected, atol=1e-4)
    assert back.labels == model.labels and not np.allclose(expected, model.classify((wav, model.sample_rate)))


@pytest.mark.parametrize("kind", ["log-mel", "maskspec"])
def test_the_folder_loads_without_the_package(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model, sounds = made(kind), waves()
    model.save_pretrained(tmp_path / "hf", code=True)
    np.savez(tmp_path / "out.npy.in.npz", *sounds)
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, tmp_path / "hf", tmp_path / "out.npy", kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for found, wav in zip(np.load(tmp_path / "out.npy"), sounds, strict=True):
        if kind == "log-mel":
            np.testing.assert_allclose(found, model.embed((wav, model.sample_rate)).scene, atol=1e-4)
        else:
            scores = torch.from_numpy(found).softmax(0)
            np.testing.assert_allclose(scores, model.classify((wav, model.sample_rate)), atol=1e-4)


def test_the_bundled_code_defines_every_name_once() -> None:
    import ast

    names = [node.name for node in ast.parse(bundled_code()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert len(names) == len(set(names)) and "import unheard" not in bundled_code()


@pytest.mark.parametrize("kind", ["log-mel", "kaldi-fbank"])
def test_unheard_loads_what_it_exported(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, wav = made(kind), waves()[3]
    model.save_pretrained(tmp_path / "hf")
    back = unheard.load(tmp_path / "hf")
    np.testing.assert_array_equal(
        back.embed((wav, model.sample_rate)).frames, model.embed((wav, model.sample_rate)).frames
    )
    assert back.labels == model.labels and back.config == model.config
    assert main(["export", str(tmp_path / "hf"), "-o", str(tmp_path / "again")]) == 0
    assert "Hugging Face folder" in capsys.readouterr().out
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "hf" / "model.safetensors"
    ).read_bytes()


def test_the_card_has_front_matter(tmp_path: Path) -> None:
    model = made("kaldi-fbank")
    model.save_pretrained(tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: audio-classification\nlicense: ")
    assert "rain, heavy" in card and "AutoModelForAudioClassification" in card and "a test of kaldi-fbank" in card


def test_the_card_states_validation_scores_and_licence_as_the_hub_reads_them() -> None:
    hub = pytest.importorskip("huggingface_hub")
    saved = made("kaldi-fbank").saved
    trained = {"validation": {"balanced_accuracy": 0.75, "loss": 1.25}}
    saved.provenance = dataclasses.replace(saved.provenance, trained=trained, licence="Apache-2.0")
    text = hf_card(saved)
    data = hub.ModelCard(text).data
    assert data.license == "apache-2.0"
    assert [(each.metric_type, each.metric_value, each.dataset_split) for each in data.eval_results] == [
        ("balanced_accuracy", 0.75, "validation")
    ]
    assert "| validation | balanced accuracy 0.75, loss 1.25 |" in text


def test_folders_of_others_and_of_newer_versions_are_refused(tmp_path: Path) -> None:
    model = made("log-mel")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="not an exported folder"):
        model.save_pretrained(tmp_path / "photos", overwrite=True)
    model.save_pretrained(tmp_path / "hf")
    with pytest.raises(ConfigError, match="exists"):
        model.save_pretrained(tmp_path / "hf")
    model.save_pretrained(tmp_path / "hf", overwrite=True)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config["unheard"]["format"] = 99
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="newer than this one"):
        unheard.load(tmp_path / "hf")


@pytest.mark.parametrize(
    ("section", "value", "text"),
    [
        ("id2label", None, "id2label and classifier must be JSON objects"),
        ("classifier", [], "id2label and classifier must be JSON objects"),
        ("id2label", {"one": "a", "two": "b"}, "id2label must have the numbers of the classes"),
        ("id2label", {"0": "a", "2": "b"}, "id2label must have the numbers of the classes"),
        ("id2label", {"0": "a", "1": "a"}, "a different name for each"),
        ("statistics", {"mean": [0, 0], "std": [1, 1]}, "must be finite numbers, one or 128 of each"),
        ("statistics", {"mean": [0], "std": [float("nan")]}, "must be finite numbers, one or 128 of each"),
    ],
)
def test_a_damaged_configuration_is_one_line(section: str, value: object, text: str, tmp_path: Path) -> None:
    made("kaldi-fbank").save_pretrained(tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    place = config["unheard"] if section == "statistics" else config
    place[section] = value
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"does not describe a model of this version: .*{text}"):
        unheard.load(tmp_path / "hf")


def test_push_to_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    calls: list[Any] = []

    class Api:
        def create_repo(self, repo: str, **options: Any) -> None:
            calls.append((repo, options))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            calls.append((repo_id, sorted(file.name for file in Path(folder_path).iterdir())))
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub, "HfApi", Api)
    model = made("log-mel")
    plan = model.push_to_hub("me/sounds", dry_run=True)
    shown = capsys.readouterr().out
    assert not calls and "dry run" in shown and "model.safetensors" in shown and "library_name: transformers" in shown
    assert plan.files.keys() == {
        "README.md", "config.json", "model.safetensors", "modeling_unheard.py", "preprocessor_config.json",
    }  # fmt: skip
    assert model.push_to_hub("me/sounds", private=True).url == "https://hub/me/sounds"
    assert calls == [("me/sounds", {"private": True, "exist_ok": True}), ("me/sounds", sorted(plan.files))]
    monkeypatch.setattr(hub, "HfApi", lambda: SimpleNamespace())
    with pytest.raises(ConfigError, match="hf auth login"):
        model.push_to_hub("me/sounds")
    with pytest.raises(ConfigError, match="USER/NAME"):
        model.push_to_hub("sounds")


@pytest.mark.parametrize(("layout", "allowed"), [("m2d", False), ("matpac", False), ("maskspec", True)])
def test_weights_that_must_not_be_redistributed_are_not_uploaded(layout: str, allowed: bool) -> None:
    from dataclasses import replace

    model = made("log-mel")
    model.provenance = replace(model.provenance, licence=LAYOUTS[layout].licence)
    if allowed:
        assert LAYOUTS[layout].licence in model.push_to_hub("me/sounds", dry_run=True).card
        return
    with pytest.raises(ConfigError, match="does not allow redistribution"):
        model.push_to_hub("me/sounds", dry_run=True)
