"""The embedding of a clip does not depend on its form or on the rest of its batch."""

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import unheard
from unheard.audio.resample import resample
from unheard.embedding.embedder import Model, Options
from unheard.embedding.job import checked_sound, plain_layer
from unheard.embedding.loading import load
from unheard.embedding.windows import column_frames, cut
from unheard.errors import AudioError, CheckpointError, ConfigError
from unheard.model.patches import Grid

RATE = 16000


@pytest.fixture(scope="module")
def model():
    return load("random-tiny")


def noise(seconds, seed=0, level=0.1):
    return (np.random.default_rng(seed).standard_normal(max(1, round(seconds * RATE))) * level).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 20, 399, 1600, RATE, 33120, 33280, 66400, 10 * RATE])
def test_any_length_gives_finite_frames_with_centred_times(model, samples):
    e = model.embed((noise(samples / RATE), RATE))
    frames = samples // 160 + 1
    columns = -(-frames // 16)
    assert e.frames.shape == (columns, 960) and e.scene.shape == (960,) and e.times_ms.shape == (columns,)
    assert e.scene.dtype == e.frames.dtype == e.times_ms.dtype == np.float32
    assert np.isfinite(e.frames).all() and np.isfinite(e.scene).all()
    np.testing.assert_allclose(e.times_ms, 75 + 160 * np.arange(columns), atol=1e-2)
    assert e.seconds == pytest.approx(samples / RATE)


def test_silence_gives_a_finite_vector(model):
    assert np.isfinite(model.embed((np.zeros(RATE, np.float32), RATE)).scene).all()


def test_the_result_does_not_depend_on_batch_mates(model):
    sounds = [
        (noise(seconds, seed=i, level=10.0 ** -(i % 4)), RATE)
        for i, seconds in enumerate([0.3, 2.08, 5.0, 0.01, 3.3] * 15)
    ]
    together = model.embed(sounds)
    for index in (0, 1, 2, 3, 4, 37, 74):
        alone = model.embed(sounds[index])
        np.testing.assert_allclose(together[index].frames, alone.frames, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(together[index].scene, alone.scene, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(together[index].times_ms, alone.times_ms)


def test_embedding_inside_inference_mode_leaves_nothing_that_fails_outside_of_it():
    model = load("random-tiny")
    with torch.inference_mode():
        inside = model.embed((noise(1.0), RATE)).scene
        resample(torch.zeros(1, 900), 44100, RATE)
    np.testing.assert_array_equal(model.embed((noise(1.0), RATE)).scene, inside)
    wav = torch.linspace(-1, 1, 900)[None].requires_grad_()
    model.frontend(F.pad(resample(wav, 44100, RATE), (0, 500))).sum().backward()
    assert wav.grad.abs().sum() > 0


def test_a_long_sound_is_its_windows_one_after_the_other(model):
    wav = noise(7.0)
    spec = torch.from_numpy(model.statistics.normalise_frames(model.frontend.spectrogram_cpu(wav))).T
    whole = model.embed((wav, RATE)).frames
    first = model.encoder(model.grid.patchify(spec[None, :, :208]))[0]
    np.testing.assert_allclose(whole[:13], model.grid.to_timesteps(first)[0].numpy(), atol=2e-5)


def test_the_scene_weighs_the_last_step_by_its_real_frames(model):
    e = model.embed((noise(1.0), RATE))  # 101 frames: six full steps and one of five frames
    weights = np.array([16] * 6 + [5], dtype=np.float64)
    np.testing.assert_allclose(e.scene, weights @ e.frames / weights.sum(), atol=1e-5)


def test_pools_and_layers(model):
    sound = (noise(3.0), RATE)
    both = model.embed(sound, pool="mean+std").scene
    frames = model.embed(sound, pool="none").scene
    assert both.shape == (1920,) and frames.shape == (19, 960)
    np.testing.assert_allclose(model.embed(sound, pool="max").scene, frames.max(axis=0))
    last, first = model.embed(sound, layer=12).scene, model.embed(sound, layer=1).scene
    np.testing.assert_allclose(last, model.embed(sound).scene, atol=1e-6)
    np.testing.assert_allclose(last, model.embed(sound, layer=-1).scene)
    assert not np.allclose(first, last, atol=1e-2)


def test_several_layers_are_concatenated_in_their_order(model):
    sound = (noise(3.0), RATE)
    first, last, both = (model.embed(sound, layer=layer, pool="mean+std") for layer in (3, -1, [3, -1]))
    np.testing.assert_array_equal(both.frames, np.concatenate([first.frames, last.frames], axis=1))
    means = np.concatenate([first.scene[:960], last.scene[:960]])
    np.testing.assert_allclose(both.scene[:1920], means, rtol=1e-6)
    deviations = np.concatenate([first.scene[960:], last.scene[960:]])
    np.testing.assert_allclose(both.scene[1920:], deviations, rtol=1e-6)
    np.testing.assert_array_equal(model.embed(sound, layer=(12, 3)).frames[:, 960:], first.frames)
    np.testing.assert_array_equal(model.embed(sound, layer=[3]).scene, model.embed(sound, layer=3).scene)
    assert plain_layer([3]) == 3 and plain_layer(range(1, 4)) == (1, 2, 3)


def test_a_finer_hop_gives_the_frames_of_shifted_windows_in_order(model):
    wav = noise(2.0)
    fine = model.embed((wav, RATE), hop=0.04)
    plain = model.embed((wav, RATE))
    np.testing.assert_allclose(np.diff(fine.times_ms), 40, atol=1e-2)
    np.testing.assert_allclose(fine.frames[::4][: len(plain.frames)], plain.frames, atol=1e-5)
    with pytest.raises(ConfigError, match=r"hop must divide the duration .* 0.01, 0.02, 0.04, 0.08, 0.16"):
        model.embed((wav, RATE), hop=0.05)


def test_every_way_to_say_the_same_sound_gives_the_same_vector(model, tmp_path):
    turns = np.cumsum(np.linspace(0.05, 0.6, 24000))
    wav = (0.3 * np.sin(turns) + 0.1 * np.sin(2 * turns)).astype(np.float32) + noise(1.5, level=0.01)
    files = {
        "f32.wav": "FLOAT",
        "16.wav": "PCM_16",
        "24.wav": "PCM_24",
        "a.flac": "PCM_16",
        "a.ogg": "VORBIS",
        "a.mp3": "MPEG_LAYER_III",
    }
    reference = model.embed((wav, RATE)).scene
    for name, subtype in files.items():
        soundfile.write(tmp_path / name, np.stack([wav, wav], axis=1), RATE, subtype=subtype)
        scene = model.embed(tmp_path / name).scene
        cosine = scene @ reference / np.linalg.norm(scene) / np.linalg.norm(reference)
        assert cosine > (0.95 if name in ("a.ogg", "a.mp3") else 0.999), name  # lossy codecs drop the quietest bands
    np.testing.assert_allclose(model.embed(str(tmp_path / "f32.wav")).scene, reference, atol=1e-5)


def test_a_list_in_gives_a_list_out(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0.5), RATE)
    result = model.embed([tmp_path / "a.wav", (noise(0.2), RATE)])
    assert [len(e.frames) for e in result] == [4, 2]


def test_bad_sounds_raise(model, tmp_path):
    (tmp_path / "text.mp3").write_text("not music")
    with pytest.raises(AudioError, match=r"text\.mp3"):
        model.embed(tmp_path / "text.mp3")
    with pytest.raises(AudioError, match="finite"):
        model.embed((np.array([0.0, np.nan], np.float32), RATE))
    for wav in (noise(0.1), noise(0.1).tolist(), torch.from_numpy(noise(0.1))):
        with pytest.raises(
            AudioError, match=r"the sample rate 16000 comes before the array; give \(array, sample_rate\)"
        ):
            checked_sound((RATE, wav))


def test_a_bad_sound_in_the_middle_takes_nothing_else_with_it(model, tmp_path):
    (tmp_path / "text.mp3").write_text("not music")
    skipped = []
    good = (noise(0.5), RATE)
    pairs = list(
        model.embed_many([good, tmp_path / "text.mp3", good], Options(), lambda sound, error: skipped.append(sound))
    )
    assert len(pairs) == 2 and skipped == [tmp_path / "text.mp3"]
    np.testing.assert_allclose(pairs[0][1].scene, pairs[1][1].scene, atol=1e-6)


def test_layers_that_do_not_exist_are_refused(model):
    with pytest.raises(ConfigError, match="layer must be 1 to 12"):
        model.embed((noise(0.1), RATE), layer=13)
    for layers in ([], [3, 3], [12, -1]):
        with pytest.raises(ConfigError, match="at least one block, and each only once"):
            model.embed((noise(0.1), RATE), layer=layers)


def test_models_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="did you mean random-tiny"):
        load("random-tinny")
    with pytest.raises(CheckpointError, match="is not a model"):
        load(tmp_path)


def test_the_built_in_model_is_the_same_every_time():
    sound = (noise(0.5), RATE)
    np.testing.assert_array_equal(load("random-tiny").embed(sound).scene, load("random-tiny").embed(sound).scene)
    assert isinstance(unheard.load("random-tiny"), Model)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 25), st.integers(0, 30))
def test_windows_cover_every_frame_once(sizes, width, offset):
    total = sum(sizes)
    flat = np.arange(total, dtype=np.float32)[:, None]
    blocks = np.split(flat, np.cumsum(sizes)[:-1])
    windows = list(cut(blocks, width, offset))
    assert all(window.frames == width for window in windows[:-1])
    assert [float(window.spec[0, 0]) for window in windows] == [float(window.start) for window in windows]
    covered = np.concatenate([window.spec[:, 0] for window in windows]) if windows else np.zeros(0)
    np.testing.assert_array_equal(covered, np.arange(min(offset, total), total))


@given(st.integers(1, 60))
def test_column_weights_count_the_real_frames(frames):
    grid = Grid(5, 3, (16, 16))
    weights = column_frames(grid, min(frames, 48))
    assert weights.sum() == min(frames, 48) and (weights > 0).all() and (weights <= 16).all()
