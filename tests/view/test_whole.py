"""A recording is reconstructed as a whole: its windows are joined, and each frame comes from one window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard import api
from unheard.audio.waveform import read
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.errors import ConfigError
from unheard.view.whole import MaskPlan, reconstruct_whole, write_sounds
from unheard.view.window import reconstruct_window, window_of
from unheard.weights.checkpoint import Provenance


@pytest.fixture(scope="module")
def model() -> Model:
    """Return an untrained model that reconstructs."""
    model = load_own("random-tiny", "cpu")
    model.provenance = Provenance()
    return model


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 5.3 s of a tone that rises in quiet noise, at 22.05 kHz."""
    time = np.arange(round(5.3 * 22050)) / 22050
    file = tmp_path_factory.mktemp("sounds") / "rising.wav"
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    soundfile.write(file, 0.4 * np.sin(2 * np.pi * (200 + 150 * time) * time) + noise, 22050)
    return file


def spectrogram(model: Model, sound: Path, seconds: float | None = None) -> np.ndarray:
    wav, _ = read(sound, model.sample_rate, seconds=seconds)
    return model.frontend.spectrogram_cpu(wav)


@pytest.mark.parametrize("seconds", [0.3, 2.0, None])
def test_windows_are_joined_without_a_gap(model: Model, sound: Path, seconds: float | None) -> None:
    spec, width = spectrogram(model, sound, seconds), model.grid.frames
    whole = reconstruct_whole(model, spec, MaskPlan("random", 0.5, seed=3))
    assert whole.original.shape == whole.masked.shape == whole.reconstructed.shape == spec.T.shape
    np.testing.assert_array_equal(whole.original, spec.T)
    first = reconstruct_window(model, window_of(model, spec[:width], ""), "random", 0.5, 3)
    np.testing.assert_array_equal(whole.reconstructed[:, :width], first.drawn)
    left = whole.masked != spec.min()
    np.testing.assert_array_equal(whole.masked[left], spec.T[left])
    np.testing.assert_array_equal(whole.reconstructed[left], spec.T[left])
    assert 0.4 < left.mean() < 0.6


def test_each_window_has_a_mask_of_its_own(model: Model, sound: Path) -> None:
    spec, width = spectrogram(model, sound), model.grid.frames
    masked = reconstruct_whole(model, spec).masked == spec.min()
    assert (masked[:, :width] != masked[:, width : 2 * width]).any()
    striped = reconstruct_whole(model, spec, MaskPlan("horizontal")).masked == spec.min()
    share = striped.mean(axis=1)
    assert ((share > 0.99) | (share < 0.01)).all()  # the lowest value itself may be visible
    assert 0.3 < (share > 0.99).mean() < 0.7


def test_the_three_sounds_are_as_long_as_the_recording(model: Model, sound: Path, tmp_path: Path) -> None:
    files = write_sounds(model, sound, tmp_path / "sounds", MaskPlan(seed=1), start=1.0)
    assert [file.name for file in files] == ["original.wav", "masked.wav", "reconstructed.wav"]
    waves = [soundfile.read(file)[0] for file in files]
    assert all(abs(len(wave) / model.sample_rate - 4.3) < 0.02 for wave in waves)
    assert np.std(waves[0]) > np.std(waves[1]) > 0
    assert all(np.isfinite(wave).all() for wave in waves)


def test_the_command_refuses_a_folder_that_exists(model: Model, sound: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    with pytest.raises(ConfigError, match="--overwrite"):
        api.reconstruct(model, sound, tmp_path / "figure.png", sounds=tmp_path / "sounds")
    assert not (tmp_path / "figure.png").exists()
    api.reconstruct(model, sound, tmp_path / "figure.png", sounds=tmp_path / "sounds", overwrite=True)
    assert len(list((tmp_path / "sounds").iterdir())) == 3
