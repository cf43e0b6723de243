"""Figures hold what they promise; sounds and pages can be opened."""

import numpy as np
import pytest
import soundfile
import torch

from unheard import api
from unheard.audio.frontend import MIN_STD, MSM_MAE_16K, LogMel, Statistics
from unheard.audio.resynthesis import griffin_lim
from unheard.embedding.loading import load
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.evaluation.probe.projection import Projection2D
from unheard.evaluation.probe.report import ProbeReport
from unheard.evaluation.reconstruction import predict
from unheard.files import json_line, write_json
from unheard.model import masking
from unheard.view import probe_figures
from unheard.view.run import curve_figure
from unheard.view.window import attention_window, loud_patches, reconstruct_window, take_window
from unheard.weights.checkpoint import Provenance


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    file = tmp_path_factory.mktemp("sound") / "tone.wav"
    time = np.arange(3 * 16000) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.25) + 0.003 * np.random.default_rng(
        0
    ).standard_normal(len(time))
    soundfile.write(file, wave.astype(np.float32), 16000)
    return file


@pytest.fixture(scope="module")
def model():
    made = load("random-tiny")
    made.provenance = Provenance()
    return made


@pytest.mark.parametrize(
    ("mask", "share"), [("random", 0.754), ("vertical", 6 / 13), ("horizontal", 2 / 5), ("chessboard", 32 / 65)]
)
def test_a_reconstruction_keeps_what_was_visible(model, sound, mask, share):
    window = take_window(model, sound, 0.5)
    shown = reconstruct_window(model, window, mask)
    hidden = np.repeat(np.repeat(shown.hidden, 16, 0), 16, 1)
    assert shown.hidden.mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_array_equal(shown.drawn[~hidden], shown.spec[~hidden])
    assert not np.allclose(shown.drawn[hidden], shown.spec[hidden])


def test_the_ratio_and_seed_of_a_random_mask_can_be_chosen(model, sound):
    window = take_window(model, sound)
    few = reconstruct_window(model, window, mask_ratio=0.98)
    assert (~few.hidden).sum() == 1
    again, other = (reconstruct_window(model, window, seed=seed).hidden for seed in (0, 1))
    assert np.array_equal(reconstruct_window(model, window, seed=0).hidden, again) and not np.array_equal(again, other)


def test_figures_and_sound_are_written_and_not_overwritten(model, sound, tmp_path):
    error = api.reconstruct(model, sound, tmp_path / "rec.png", wav=tmp_path / "rec.wav")
    assert error.model > 0 and set(error.baselines) == {"band mean", "nearest", "linear"}
    assert (tmp_path / "rec.png").read_bytes().startswith(b"\x89PNG")
    wav, rate = soundfile.read(tmp_path / "rec.wav")
    assert rate == 16000 and len(wav) == pytest.approx(2.07 * 16000, abs=400) and np.abs(wav).max() > 0
    with pytest.raises(ConfigError, match="--overwrite"):
        api.reconstruct(model, sound, tmp_path / "rec.png")
    with pytest.raises(DataError, match=r"must end in \.png"):
        api.attention(model, sound, tmp_path / "att.gif")
    api.attention(model, sound, tmp_path / "att.svg", at=[(1, 2), (0, 0)])
    assert b"<svg" in (tmp_path / "att.svg").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "vertical", "mask_ratio": 0.5},
        {"painted": "x.", "mask_ratio": 0.5},
        {"painted": "x.", "mask": "vertical"},
    ],
)
def test_options_of_a_mask_that_have_no_effect_are_refused(model, sound, tmp_path, options):
    with pytest.raises(ConfigError, match="leave"):
        api.reconstruct(model, sound, tmp_path / "rec.png", **options)
    assert not (tmp_path / "rec.png").exists()


def test_attention_is_the_models_own(model, sound):
    window = take_window(model, sound)
    (gaze,) = attention_window(model, window, [(3, 7)])
    encoder = model.encoder
    tokens = encoder.with_cls(encoder.tokens(model.grid.patchify(window.normal)))
    weights = encoder.transformer.attention(tokens)[0].mean(dim=0)[1 + 3 * 13 + 7, 1:].reshape(5, 13)
    np.testing.assert_allclose(gaze.weights, weights.numpy(), atol=1e-6)
    with pytest.raises(ConfigError, match="patch 5,0 is outside"):
        attention_window(model, window, [(5, 0)])


def test_reference_patches_are_loud_ones_of_different_times(model, sound):
    chosen = loud_patches(take_window(model, sound))
    assert len({column for _, column in chosen}) == 3


def test_a_short_sound_shows_only_its_own_patches(model, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).standard_normal(8000) * 0.1, 16000)
    window = take_window(model, tmp_path / "short.wav")
    assert window.spec.shape == (80, 51) and window.grid.time == 4
    shown = reconstruct_window(model, window, "chessboard")
    assert shown.hidden.shape == (5, 4) and shown.drawn.shape == (80, 51)
    assert attention_window(model, window)[0].weights.shape == (5, 4)


def test_a_model_without_a_decoder_says_so(sound, tmp_path):
    with pytest.raises(CheckpointError, match="no trained decoder"):
        api.reconstruct("random-tiny", sound, tmp_path / "rec.png")


def test_resynthesis_gives_a_sound_with_the_same_spectrogram(sound):
    frontend = LogMel(MSM_MAE_16K)
    wav, _ = soundfile.read(sound, dtype="float32")
    spec = frontend.spectrogram_cpu(wav[:24000]).T
    again = frontend.spectrogram_cpu(griffin_lim(spec, MSM_MAE_16K))[: spec.shape[1]].T
    loud = spec[:, : again.shape[1]] > -7
    assert np.abs(again - spec[:, : again.shape[1]])[loud].mean() < 0.5


def test_figures_of_an_earlier_probe_do_not_stay(tmp_path, monkeypatch):
    for name in ("layers", "curve", "confusion"):
        (tmp_path / f"{name}.png").touch()
    for name in ("save", "scores", "scatter_projection"):
        monkeypatch.setattr(probe_figures, name, lambda *_: None)
    report = object.__new__(ProbeReport)
    vars(report).update(confusion=[], curve=[], layers=[])
    probe_figures.draw(report, Projection2D(np.arange(2), np.eye(2), np.eye(2), 0.5), ["a", "b"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_report_needs_a_run_and_shows_its_probes(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run at"):
        api.report(tmp_path)
    recipe = {
        "name": "msm-mae",
        "paper": "",
        "frontend": {"hop_size": 160, "sample_rate": 16000},
        "training": {"batch_size": 8, "seed": 0},
    }
    recipe["model"] = {
        "size": "tiny",
        "frames": 208,
        "patch_size": [16, 16],
        "mask_ratio": 0.75,
        "embed_dim": 192,
        "depth": 12,
        "num_heads": 3,
    }
    write_json(tmp_path / "config.json", {"recipe": recipe, "data": "<sounds>", "total": 4})
    with pytest.raises(DataError, match="no metrics yet"):
        api.report(tmp_path)
    row = {
        "step": 4,
        "epoch": 0.5,
        "loss": 1.0,
        "loss/reconstruct": 1.0,
        "learning_rate": 0.1,
        "clips_per_second": 9.0,
        "loader_wait": 0.0,
    }
    (tmp_path / "metrics.jsonl").write_text(json_line(row))
    (tmp_path / "probe").mkdir()
    score = {
        "embedding": "model",
        "head": "linear",
        "metric": "accuracy",
        "mean": 0.75,
        "low": 0.7,
        "high": 0.8,
        "runs": [0.75],
    }
    write_json(
        tmp_path / "probe/probe.json", {"classes": ["a", "b"], "clips": 9, "tested": 3, "chance": {}, "scores": [score]}
    )
    page = api.report(tmp_path).read_text()
    assert "0.750" in page and "&lt;sounds&gt;" in page and "data:image/png;base64" in page and "https://" not in page


def test_figures_compute_on_the_device_of_the_model_and_leave_it_there(sound):
    moved, seen = load("random-tiny"), []
    moved.provenance = Provenance()
    window = take_window(moved, sound)
    moved.learner.to("meta")
    moved.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].device.type))
    moved.encoder.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].device.type))
    for draw in (reconstruct_window, attention_window):
        with pytest.raises(NotImplementedError, match="meta"):  # there is nothing to draw on this device
            draw(moved, window)
        assert moved.device.type == "meta"
    assert seen and set(seen) == {"meta"}


def test_figures_use_the_deviation_that_normalised_the_window(model, sound):
    narrow = model.with_statistics(Statistics((-7.0,), (0.0,)))
    window = take_window(narrow, sound)
    shown = reconstruct_window(narrow, window)
    hidden = np.repeat(np.repeat(shown.hidden, 16, 0), 16, 1)
    assert np.ptp(shown.drawn[hidden]) > 0  # with a deviation of 0 everything would be the mean
    drawn = predict(
        narrow.learner, window.normal, masking.mask_from_flags(torch.from_numpy(shown.hidden.ravel())[None])
    )[0].numpy()
    np.testing.assert_allclose(shown.drawn[hidden], (drawn * MIN_STD - 7.0)[hidden], rtol=1e-5)


def test_an_existing_sound_is_refused_before_the_figure_is_written(model, sound, tmp_path):
    (tmp_path / "rec.wav").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="rec.wav exists"):
        api.reconstruct(model, sound, tmp_path / "rec.png", wav=tmp_path / "rec.wav")
    assert [file.name for file in tmp_path.iterdir()] == ["rec.wav"]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_curves_of_few_logged_rows_show_points(count, tmp_path):
    row = {"loss": 1.0, "learning_rate": 0.1, "clips_per_second": 9.0}
    (tmp_path / "metrics.jsonl").write_text("".join(json_line({"step": step, **row}) for step in range(count)))
    lines = [line for axes in curve_figure(tmp_path).axes for line in axes.lines]
    assert len(lines) == 3 and all((line.get_marker() == "o") == (count < 20) for line in lines)
