"""A fine-tuned model folder opens, embeds and classifies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load
from unheard.errors import CheckpointError, ConfigError
from unheard.files import read_json, write_json
from unheard.model.classifier import ClassifierConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, build_classifier, load_model, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SMALL = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
LABELS = ("dog", "rain", "snare")
RATE = 16000


def folder_of(place: Path, config: ClassifierConfig) -> Path:
    classifier = build_classifier(config, SMALL)
    with torch.no_grad():
        for number, parameter in enumerate(classifier.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    save_model(place, build(SMALL), SMALL, Statistics((-6.0,), (4.0,)), Provenance(), classifier)
    return place


@pytest.fixture(params=["mean", "cls"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    head = ClassifierConfig(LABELS, "sigmoid")
    if request.param == "cls":
        head = replace(head, pool="cls", norm="none")
    return load(folder_of(tmp_path / "model", head))


def noise(seconds: float, seed: int = 0) -> tuple[np.ndarray, int]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32), RATE


def test_a_folder_keeps_classifier_and_labels(model: Model, tmp_path: Path) -> None:
    assert model.labels == LABELS and model.classifier is not None
    again = load_model(tmp_path / "model")
    assert again.classifier is not None and again.classifier.config == model.classifier.config
    for name, value in model.classifier.state_dict().items():
        assert torch.equal(again.classifier.state_dict()[name], value)
    assert not any(p.requires_grad for p in again.classifier.parameters()) and not again.classifier.training


def test_scores_are_those_of_the_encoder_and_its_head(model: Model) -> None:
    wav = noise(0.315)  # 32 frames: one whole window
    classifier = model.classifier
    assert classifier is not None
    spec = model.statistics.normalise(model.frontend(torch.from_numpy(wav[0])[None]))
    tokens, cls = model.encoder(model.grid.patchify(spec))
    expected = classifier.scores(classifier(classifier.pool(tokens, cls)))[0]
    assert np.allclose(model.classify(wav), expected.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.5, 2.0])
def test_any_length_gives_a_score_for_each_label(model: Model, seconds: float) -> None:
    scores = model.classify(noise(seconds))
    assert scores.shape == (3,) and scores.dtype == np.float32 and ((scores > 0) & (scores < 1)).all()


def test_a_list_gives_a_list_and_company_changes_nothing(model: Model) -> None:
    sounds = [noise(0.3, 1), noise(1.1, 2), noise(0.05, 3)]
    together = model.classify(list(sounds))
    assert all(
        np.allclose(scores, model.classify(sound), atol=1e-5) for scores, sound in zip(together, sounds, strict=True)
    )


def test_a_fine_tuned_model_still_embeds(model: Model) -> None:
    assert model.embed(noise(0.5)).scene.shape == (24 * 5,)


def test_a_model_without_classifier_says_what_to_do() -> None:
    model = load("random-tiny")
    assert model.labels == ()
    with pytest.raises(ConfigError, match="finetune"):
        model.classify(noise(0.3))


def test_a_folder_with_half_a_classifier_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", ClassifierConfig(LABELS))
    config = read_json(folder / "config.json")
    config["classifier"]["labels"].append("hat")
    write_json(folder / "config.json", config)
    with pytest.raises(CheckpointError, match=r"classifier.head.weight is \(3, 24\), expected \(4, 24\)"):
        load_model(folder)


def test_the_card_names_the_classes(model: Model, tmp_path: Path) -> None:
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| classes | 3: dog, rain, snare |" in card and 'model.classify("sound.wav")' in card
