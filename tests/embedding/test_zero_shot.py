"""Zero-shot classification: scores, clips of any length, refused inputs, the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load
from unheard.embedding.zero_shot import TEMPLATES, ZeroShot
from unheard.errors import ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.teachers.text import TextEncoder
from unheard.weights.checkpoint import Provenance, save_model

transformers = pytest.importorskip("transformers")

RATE = 16000
LABELS = ("tone", "dog 1", "rain 2")
SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that knows captions, with random weights, and its text encoder."""
    place = tmp_path_factory.mktemp("clap-mini")
    torch.manual_seed(0)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "tone",
        "dog",
        "rain",
        "sound",
        "of",
        "the",
        "a",
        *(f"{i}" for i in range(10)),
    ]
    (place / "text").mkdir()
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(place / "text")
    transformers.BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(
        place / "text"
    )
    settings = [
        f"objectives.contrast.text={place / 'text'}",
        "objectives.contrast.text_dim=16",
        "objectives.contrast.dim=8",
    ]
    recipe = override(find_recipe("clap-mini"), [*(f"model.{size}" for size in SIZES), *settings])
    save_model(place / "model", build(recipe), recipe, Statistics((-6.0,), (4.0,)), Provenance())
    return place


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder / "model")


def noise(seconds: float, seed: int = 0) -> tuple[np.ndarray, int]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32), RATE


def test_scores_are_the_models_own_similarities(model: Model) -> None:
    sound = noise(0.315)  # one whole window
    ((_, scores),) = ZeroShot(model, LABELS).scores([sound])
    contrast = model.learner.objectives["contrast"]
    encoder = TextEncoder(model.config.objectives.contrast.text)
    spec = model.statistics.normalise(model.frontend(torch.from_numpy(sound[0])[None]))[..., : model.grid.frames]
    with torch.no_grad():
        tokens, _ = model.encoder(model.grid.patchify(spec))
        audio = contrast.project_audio(tokens.mean(dim=1))[0]
        text = torch.stack(
            [contrast.captions(encoder([t.format(label) for t in TEMPLATES])).mean(dim=0) for label in LABELS]
        )
        expected = (contrast.scale() * torch.nn.functional.normalize(text, dim=-1) @ audio).softmax(dim=0)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
    assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_company_does_not_matter(model: Model) -> None:
    judge = ZeroShot(model, LABELS)
    together = [scores for _, scores in judge.scores([noise(0.2), noise(1.7, 1), noise(0.05, 2)])]
    alone = [next(judge.scores([sound]))[1] for sound in (noise(0.2), noise(1.7, 1), noise(0.05, 2))]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_cannot_be_chosen_from_is_refused(model: Model) -> None:
    for labels in ((), ("dog",), ("dog", "dog")):
        with pytest.raises(ConfigError, match="two different labels"):
            ZeroShot(model, labels)
    with pytest.raises(ConfigError, match="clap-mini"):
        ZeroShot(load("random-tiny"), LABELS)


def test_a_sentence_does_not_depend_on_its_company(folder: Path) -> None:
    encoder = TextEncoder(str(folder / "text"))
    together = encoder(["dog", "the sound of the rain 1 2 3", ""])
    torch.testing.assert_close(together[:1], encoder(["dog"]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1:2], encoder(["the sound of the rain 1 2 3"]), atol=1e-5, rtol=1e-4)
    assert encoder([]).shape == (0, 16) and not encoder.train().model.training


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.5)[0], RATE)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    command = [
        "predict",
        str(folder / "model"),
        str(tmp_path),
        "--labels",
        "tone, dog 1, rain 2",
        "--json",
        "-o",
        str(tmp_path / "out.csv"),
    ]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    best = report["predictions"][0]["scores"]
    assert report["labels"] == ["tone", "dog 1", "rain 2"] and len(best) == 3
    assert (
        float(row[f"score {next(iter(best))}"])
        == pytest.approx(max(best.values()), abs=1e-4)
        == max(float(row[f"score {name}"]) for name in report["labels"])
    )
    assert [skipped["path"] for skipped in report["skipped"]] == [str(tmp_path / "b.wav")]
    assert main([*command, "--overwrite", "--strict"]) == 1
    assert main(command) == 2  # the table is there
    assert main(["predict", str(folder / "model"), str(tmp_path)]) == 2  # nothing to choose from
    assert "--labels" in capsys.readouterr().err
