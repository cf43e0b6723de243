"""Files with an X-ARES encoder of a model: the checks of X-ARES, and equal frames alone and in a batch."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unheard
from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.embedding.embedder import Model


def encoder_of(file: Path) -> nn.Module:
    """Import a file and build its encoder, as X-ARES does."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    (name,) = [name for name in vars(module) if name.endswith("Encoder")]
    found: nn.Module = getattr(module, name)()
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("xares") / "my_tiny.py"
    assert main(["export", "random-tiny", "-o", str(out)]) == 0
    return out


def test_the_file_passes_the_checks_of_xares(file: Path) -> None:
    encoder = encoder_of(file)
    assert type(encoder).__name__ == "MyTinyEncoder" and not encoder.training
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16000, 960, 160.0)
    encoded = encoder(torch.randn(2, 50000, generator=torch.Generator().manual_seed(0)))
    assert isinstance(encoded, torch.Tensor) and encoded.ndim == 3
    assert encoded.shape[0] == 2 and encoded.shape[2] == encoder.output_dim and encoded.dtype == torch.float32
    assert abs(encoded.shape[1] - 50 / 16 / 0.16) < 1
    assert pickle.loads(pickle.dumps(type(encoder))) is type(encoder)


def test_frames_are_those_of_embed_alone_and_in_a_batch(file: Path) -> None:
    encoder, model = encoder_of(file), unheard.load("random-tiny")
    waves = torch.randn(3, 70001, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 10
    together = encoder(waves)
    for wav, frames in zip(waves, together, strict=True):
        np.testing.assert_allclose(frames, model.embed((wav.numpy().astype(np.float32), 16000)).frames, atol=1e-6)
        torch.testing.assert_close(encoder(wav)[0], frames, atol=1e-5, rtol=0)


def test_other_shapes_and_models_without_a_place_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(unheard.AudioError, match="shape"):
        encoder_of(file)(torch.zeros(1, 1, 100))
    with pytest.raises(unheard.ConfigError, match=r"in \.py"):
        unheard.export("random-tiny", tmp_path / "x.onnx", to="xares")
    model = unheard.load("random-tiny")
    model.origin = ""
    with pytest.raises(unheard.ConfigError, match="save it first"):
        unheard.export(model, tmp_path / "x.py")
    changed = unheard.load("random-tiny").with_statistics(Statistics((-5.0,), (3.0,)))
    with pytest.raises(unheard.ConfigError, match="save it first"):
        unheard.export(changed, tmp_path / "x.py")


@pytest.mark.parametrize("end", [".py", ".onnx", ""])
def test_a_model_that_pads_its_windows_is_not_exported(tmp_path: Path, end: str) -> None:
    padding = Model(unheard.load("random-tiny").saved, pad_window=True)
    with pytest.raises(unheard.ConfigError, match="without pad_window"):
        unheard.export(padding, tmp_path / f"x{end}")
    assert not list(tmp_path.iterdir())


def test_the_weights_of_a_folder_have_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    unheard.load("random-tiny").save_pretrained("folder")
    assert main(["export", "folder", "-o", "2nd-encoder.py"]) == 0
    assert repr(str(tmp_path / "folder")) in (tmp_path / "2nd-encoder.py").read_text()
    monkeypatch.chdir("/")
    assert type(encoder_of(tmp_path / "2nd-encoder.py")).__name__ == "Model2ndEncoder"
    assert main(["export", "random-tiny", "-o", str(tmp_path / "2nd-encoder.py")]) == 2
