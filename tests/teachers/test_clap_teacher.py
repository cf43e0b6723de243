"""A CLAP checkpoint of Hugging Face as a teacher, against transformers, with tiny random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

from unheard.errors import CheckpointError  # noqa: E402
from unheard.teachers.clap import ClapTeacher, unstack  # noqa: E402

RATE = 48_000


def checkpoint(folder: Path, truncation: str = "rand_trunc", **audio: object) -> Path:
    """A tiny CLAP with random weights, saved as a user would have it."""
    torch.manual_seed(0)
    sizes = {
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 8],
        "hidden_size": 128,
        **audio,
    }
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    }
    config = transformers.ClapConfig(audio_config=sizes, text_config=text, projection_dim=32)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(frequency_min=50, truncation=truncation).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint for the whole file."""
    return checkpoint(tmp_path_factory.mktemp("clap"))


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("seconds", [10.0, 2.08, 6.0])
def test_the_front_end_is_that_of_the_preprocessor_file(folder: Path, seconds: float) -> None:
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    wav = sound(seconds)
    theirs = extractor(wav, sampling_rate=RATE, return_tensors="pt")["input_features"][0, 0]
    ours = ClapTeacher(folder).features(torch.from_numpy(wav)[None])[0].T
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs.float(), atol=2e-3)  # dB


def test_the_final_map_is_transformers_own(folder: Path) -> None:
    wav = sound(10.0)
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        theirs = model.audio_model(
            extractor(wav, sampling_rate=RATE, return_tensors="pt")["input_features"].float()
        ).last_hidden_state
    teacher = ClapTeacher(folder)
    ours = teacher(torch.from_numpy(wav)[None])
    assert (
        ours.shape
        == (1, 128, 2, 32)
        == (1, teacher.dim, len(teacher.axes(480_000).edges) + 1, len(teacher.axes(480_000).columns))
    )
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_the_projection_is_applied_place_by_place(folder: Path) -> None:
    wav = torch.from_numpy(sound(1.0))[None]
    plain, projected = ClapTeacher(folder), ClapTeacher(folder, projected=True)
    assert projected(wav).shape == (1, projected.dim, 2, 32) == (1, 32, 2, 32)
    with torch.no_grad():
        place = projected.projection(plain(wav)[:, :, 1, 7])  # type: ignore[misc]
    assert torch.allclose(projected(wav)[:, :, 1, 7], place, atol=1e-5)


def test_a_fused_checkpoint_hears_unfused(tmp_path: Path) -> None:
    teacher = ClapTeacher(checkpoint(tmp_path, truncation="fusion", enable_fusion=True))
    model = transformers.ClapModel.from_pretrained(tmp_path).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(tmp_path)
    wav = sound(10.0)
    with torch.no_grad():
        theirs = model.audio_model(
            extractor(wav, sampling_rate=RATE, return_tensors="pt")["input_features"].float(),
            is_longer=torch.zeros(1, 1, dtype=torch.bool),
        )
    assert torch.allclose(teacher(torch.from_numpy(wav)[None]), theirs.last_hidden_state, atol=1e-3)


def test_the_folded_map_is_put_side_by_side() -> None:
    spectrogram = torch.arange(3 * 4 * 8).float().reshape(1, 3, 4, 8)  # C, f, 4 pieces x 2 columns
    folded = spectrogram.reshape(1, 3, 4, 4, 2).permute(0, 1, 3, 2, 4).reshape(1, 3, 16, 2)
    assert torch.equal(unstack(folded, 4), spectrogram)


def test_the_middle_map_moves_where_the_sound_does(folder: Path) -> None:
    teacher = ClapTeacher(folder, stage="middle")
    tone = np.sin(2 * np.pi * 300 * np.arange(48_000) / RATE).astype(np.float32)
    quiet = sound(10.0) * 0.01
    loud = quiet.copy()
    loud[6 * RATE : 7 * RATE] += tone  # a low tone in the seventh second
    moved = (
        (teacher(torch.from_numpy(loud)[None]) - teacher(torch.from_numpy(quiet)[None])).square().sum(dim=1)[0].sqrt()
    )
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert moved.shape == (4, 64) and row == 0
    assert 5.5 < teacher.axes(480_000).columns[column] < 7.5


def test_it_is_frozen_whatever_is_asked(folder: Path) -> None:
    teacher = ClapTeacher(folder).train()
    assert not teacher.training and not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(torch.zeros(1, 48_000, requires_grad=True)).requires_grad


def test_a_folder_without_its_preprocessor_file_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="preprocessor_config.json"):
        ClapTeacher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((folder / "preprocessor_config.json").read_text())
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        ClapTeacher(tmp_path)
