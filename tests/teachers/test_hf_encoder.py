"""Audio encoders of Hugging Face as teachers, against transformers itself, with tiny random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.hf_models import CONVOLUTIONAL

transformers = pytest.importorskip("transformers")

from unheard.errors import ConfigError  # noqa: E402
from unheard.teachers.hf_encoder import HfTeacher  # noqa: E402
from unheard.teachers.load import absolute_name, load_teacher  # noqa: E402

RATE = 16_000
AST = "audio-spectrogram-transformer"
KINDS = ("wav2vec2", "hubert", "whisper", AST)
Folder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def theirs(folder: Path, wav: torch.Tensor) -> Any:
    """The output of transformers for one clip, loaded as its documentation says."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(wav[0].numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        encoder = model.get_encoder() if hasattr(model, "decoder") else model
        return encoder(given[extractor.model_input_names[0]], output_hidden_states=True)


def as_map(tokens: torch.Tensor, kind: str) -> torch.Tensor:
    """Tokens of transformers as rows and columns."""
    if kind == AST:
        return tokens[:, 2:].unflatten(1, (12, 12)).permute(0, 3, 1, 2)  # class and distillation tokens first
    return tokens.transpose(1, 2)[:, :, None]


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_transformers_own(hf_model: Folder, kind: str) -> None:
    wav = noise(1.0)
    teacher = load_teacher(f"hf:{hf_model(kind)}")
    ours, expected = teacher(wav), as_map(theirs(hf_model(kind), wav).last_hidden_state, kind)
    columns = {"whisper": 50, AST: 10}.get(kind, 49)
    assert ours.shape == (1, 16, 12 if kind == AST else 1, columns)
    assert torch.allclose(ours, expected[..., :columns], atol=1e-5)
    assert not ours.requires_grad and not teacher.train().training


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONAL))
def test_every_convolutional_type_has_a_column_every_20_ms(hf_model: Folder, kind: str) -> None:
    teacher = load_teacher(f"hf:{hf_model(kind)}")
    assert teacher(noise(1.3)).shape == (1, 16, 1, 64)
    assert teacher.axes(round(1.3 * RATE)).columns[:3] == pytest.approx([0.0125, 0.0325, 0.0525])


@pytest.mark.parametrize(
    ("kind", "hop", "first", "samples", "columns"),
    [
        ("wav2vec2", 0.02, 0.0125, 16_000, (16_000 - 400) // 320 + 1),
        ("hubert", 0.02, 0.0125, 100, 1),
        ("whisper", 0.02, 0.0, 16_001, 51),
        ("whisper", 0.02, 0.0, 1, 1),
        (AST, 0.1, 0.0875, 16_000, 10),  # the eleventh patch is centred at 1.0875 s
        (AST, 0.1, 0.0875, 1, 1),
    ],
)
def test_columns_follow_the_hop_of_the_model(
    hf_model: Folder, kind: str, hop: float, first: float, samples: int, columns: int
) -> None:
    teacher = load_teacher(f"hf:{hf_model(kind)}")
    axes = teacher.axes(samples)
    assert len(axes.columns) == columns == teacher(noise(samples / RATE)).shape[3]
    assert np.allclose(axes.columns, first + hop * np.arange(columns))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0.35, 0.8])
def test_a_click_changes_the_columns_at_its_time_most(hf_model: Folder, kind: str, at: float) -> None:
    teacher = load_teacher(f"hf:{hf_model(kind)}")
    first, second = (0.01 * noise(1.2) for _ in range(2))
    for clip, start in ((first, at), (second, at + 0.2)):
        clip[0, round(start * RATE) : round(start * RATE) + 40] += 0.5
    change = (teacher(first) - teacher(second)).abs().mean(dim=(0, 1, 2))
    there = teacher.axes(first.shape[1]).columns[int(change.argmax())]
    assert min(abs(there - at), abs(there - at - 0.2)) <= (0.08 if kind == AST else 0.021)  # a patch of AST: 0.16 s


def test_a_tone_changes_the_row_of_its_frequency_most(hf_model: Folder) -> None:
    teacher = load_teacher(f"hf:{hf_model(AST)}")
    edges = teacher.axes(RATE).edges
    assert len(edges) == 11 and list(edges) == sorted(edges) and 20 < edges[0] < 300 and 5000 < edges[-1] < 8000
    for frequency in (300.0, 1500.0, 6000.0):
        tone = 0.3 * torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE)[None]
        change = (teacher(0.01 * noise(1.0) + tone) - teacher(0.01 * noise(1.0))).abs().mean(dim=(0, 1, 3))
        assert abs(int(change.argmax()) - int(np.searchsorted(edges, frequency))) <= 1  # rows overlap


@pytest.mark.parametrize(("kind", "step"), [("whisper", 2.0), (AST, 1.2)])
def test_a_clip_longer_than_a_window_keeps_its_hop(hf_model: Folder, kind: str, step: float) -> None:
    teacher = load_teacher(f"hf:{hf_model(kind)}")
    wav = noise(2.9)
    whole, axes = teacher(wav), teacher.axes(wav.shape[1])
    assert np.allclose(np.diff(axes.columns), np.diff(axes.columns)[0]) and axes.columns[-1] < 2.9
    assert whole.shape[3] == len(axes.columns)
    in_first = round(step / (axes.columns[1] - axes.columns[0]))
    second = teacher(wav[:, round(step * RATE) :])
    assert torch.allclose(whole[..., in_first : 2 * in_first], second[..., :in_first], atol=1e-5)


def test_a_layer_is_that_of_transformers(hf_model: Folder) -> None:
    teacher, wav = load_teacher(f"hf:{hf_model('hubert')}"), noise(0.5)
    assert isinstance(teacher, HfTeacher)
    states = theirs(hf_model("hubert"), wav).hidden_states
    assert torch.allclose(teacher.at_layer(1)(wav), as_map(states[1], "hubert"), atol=1e-5)
    assert torch.equal(teacher.at_layer(2)(wav), teacher(wav))
    assert torch.equal(teacher.at_layer(-2)(wav), teacher.at_layer(1)(wav))
    both = teacher.at_layer([1, 2])(wav)
    assert torch.equal(both, torch.cat([teacher.at_layer(1)(wav), teacher(wav)], dim=1))
    with pytest.raises(ConfigError, match="layer must be 1 to 2"):
        teacher.at_layer(3)


def test_weights_in_parts_and_weights_of_a_larger_model_are_read(hf_model: Folder, tmp_path: Path) -> None:
    transformers.HubertModel.from_pretrained(hf_model("hubert")).save_pretrained(tmp_path, max_shard_size="10KB")
    shutil.copy(hf_model("hubert") / "preprocessor_config.json", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    wav, expected = noise(0.5), load_teacher(f"hf:{hf_model('hubert')}")(noise(0.5))
    assert torch.equal(load_teacher(f"hf:{tmp_path}")(wav), expected)
    tuned = shutil.copytree(hf_model("hubert"), tmp_path / "tuned")
    held = {f"hubert.{name}": value for name, value in load_file(tuned / "model.safetensors").items()}
    save_file({**held, "lm_head.weight": torch.zeros(4, 16)}, tuned / "model.safetensors")
    assert torch.equal(load_teacher(f"hf:{tuned}")(wav), expected)


def test_other_weights_and_other_inputs_have_another_fingerprint(hf_model: Folder, tmp_path: Path) -> None:
    first = load_teacher(f"hf:{hf_model('hubert')}").fingerprint
    other = shutil.copytree(hf_model("hubert"), tmp_path / "other")
    assert load_teacher(f"hf:{other}").fingerprint == first
    weights = load_file(other / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, other / "model.safetensors")
    assert load_teacher(f"hf:{other}").fingerprint != first
    save_file(weights, other / "model.safetensors")
    settings = (other / "preprocessor_config.json").read_text()
    (other / "preprocessor_config.json").write_text(settings.replace('"do_normalize": true', '"do_normalize": false'))
    assert load_teacher(f"hf:{other}").fingerprint != first


def test_settings_of_clap_are_refused_for_others(hf_model: Folder) -> None:
    for name in (f"hf:{hf_model('hubert')}", "random-tiny"):
        with pytest.raises(ConfigError, match="stage and projected belong to CLAP"):
            load_teacher(name, stage="middle")


def test_a_name_with_a_folder_is_made_absolute(
    hf_model: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hf_model("hubert").parent)
    assert absolute_name("hf:hubert") == f"hf:{hf_model('hubert').resolve()}"
    assert [absolute_name(name) for name in ("", "random-tiny", "hear:module")] == ["", "random-tiny", "hear:module"]
