"""Encoders of others that embed, probe and are evaluated under the names ``hf:DIR`` and ``hear:MODULE``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tests.evaluation.made import Levels, make_task

import unheard.hear
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.embedding.external import ExternalModel, cut_waves
from unheard.embedding.job import Options
from unheard.errors import AudioError, CheckpointError, ConfigError
from unheard.evaluation.encoders.choose import encoder, encoders
from unheard.evaluation.encoders.own_encoder import Runtime
from unheard.evaluation.probe.vectors import LOG_MEL, RANDOM, baselines, layer_vectors, scenes
from unheard.teachers.hear_module import HearTeacher
from unheard.teachers.teacher import Windows

RATE = 16_000
AST = "audio-spectrogram-transformer"
Folder = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Loud and soft clips, and their table."""
    (tmp_path / "sounds").mkdir()
    rows = ["path,label"]
    for clip in range(10):
        level, name = (0.1, 1.0)[clip % 2], f"{clip}.wav"
        soundfile.write(tmp_path / "sounds" / name, level * noise(0.5 + 0.1 * clip, clip), RATE)
        rows.append(f"{name},{('soft', 'loud')[clip % 2]}")
    (tmp_path / "sounds" / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "sounds"


@pytest.mark.parametrize(("kind", "size"), [("hubert", 16), ("whisper", 16), (AST, 12 * 16)])
def test_frames_and_scene_are_those_of_the_teacher(hf_model: Folder, kind: str, size: int) -> None:
    model = unheard.load(f"hf:{hf_model(kind)}")
    wav = noise(5.3)  # three windows of Whisper, five of AST
    one = model.embed((wav, RATE))
    maps = model.teacher(torch.from_numpy(wav)[None])
    assert model.sample_rate == RATE and model.embedding_size == size == one.scene.size
    assert np.allclose(one.frames, maps.permute(0, 3, 2, 1).flatten(2)[0].numpy(), atol=1e-5)
    assert np.allclose(one.times_ms, 1000 * np.array(model.teacher.axes(len(wav)).columns), atol=0.01)
    assert np.allclose(one.scene, one.frames.mean(axis=0), atol=1e-5)
    assert one.seconds == pytest.approx(5.3)


def test_the_result_of_a_clip_does_not_depend_on_the_others(hf_model: Folder) -> None:
    model = unheard.load(f"hf:{hf_model('hubert')}")
    clips: list[Any] = [(noise(seconds, seed), RATE) for seed, seconds in enumerate((0.5, 0.01, 1.0, 0.5))]
    for clip, together in zip(clips, model.embed(clips), strict=True):
        assert np.allclose(model.embed(clip).frames, together.frames, atol=1e-5)
    assert len(model.embed((np.zeros(1, np.float32), RATE)).frames) == 1


@pytest.mark.parametrize("samples", [1, 99, 100, 140, 141, 180, 339, 340, 500])
def test_windows_cover_every_column_once(samples: int) -> None:
    windows, field, hop = Windows(step=200, reach=200 - 40 + 60, least=60), 60, 40
    wav = np.arange(samples, dtype=np.float32)
    for blocks in ([wav], np.array_split(wav, 7)):
        pieces = list(cut_waves(blocks, windows))
        assert all(piece.start == piece.wav[0] for piece in pieces)
        columns = [max(0, (len(piece.wav) - field) // hop + 1) for piece in pieces]
        assert sum(columns) == max(0, (samples - field) // hop + 1) or samples < field


def test_layers_and_pooling(hf_model: Folder) -> None:
    model, clip = unheard.load(f"hf:{hf_model('hubert')}"), (noise(0.5), RATE)
    first, last = model.embed(clip, layer=1), model.embed(clip)
    assert not np.allclose(first.scene, last.scene) and model.depth == 2
    assert model.embed(clip, pool="mean+std", frames=False).scene.shape == (32,)
    both = model.embed(clip, layer=[1, 2])
    np.testing.assert_array_equal(both.scene, np.concatenate([first.scene, last.scene]))
    for how, message in (({"hop": 0.01}, "frames at its own hop"), ({"layer": 9}, "layer must be 1 to 2")):
        with pytest.raises(ConfigError, match=message):
            model.embed(clip, **how)


def test_a_scene_of_a_hear_module_is_its_own(levels: Levels) -> None:
    model, clip = unheard.load("hear:levels"), (noise(1.0), RATE)
    assert isinstance(model, ExternalModel) and "hear:levels" in repr(model)
    level = float(np.square(clip[0]).mean())
    assert model.embed(clip).scene == pytest.approx([level, -level], rel=1e-4)
    assert model.embed(clip).frames.shape == (20, 2) and model.embed(clip, pool="max").scene[0] > level
    with pytest.raises(ConfigError, match="no layers to choose from"):
        model.embed(clip, layer=1)


def test_frames_of_a_hear_module_are_searched_by_frames(
    levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(  # in another space than the frames
        levels, "get_scene_embeddings", lambda audio, model: -levels.get_timestamp_embeddings(audio, model)[0].mean(1)
    )
    quiet, loud = tmp_path / "quiet.wav", tmp_path / "loud.wav"
    for file, level in ((quiet, 0.01), (loud, 0.9)):
        soundfile.write(file, level * np.sign(noise(1.0)), RATE)
    unheard.embed("hear:levels", [quiet, loud], out := tmp_path / "frames.parquet", frames=True)
    example = tmp_path / "example.wav"
    soundfile.write(example, 0.9 * np.sign(noise(0.5)), RATE)
    assert {Path(hit.path).name for hit in unheard.search(out, like=example, k=10)} == {"loud.wav"}


def test_embeddings_that_are_not_finite_are_an_error_of_the_clip(
    levels: Levels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = unheard.load("hear:levels")
    monkeypatch.setattr(levels, "get_scene_embeddings", lambda audio, model: torch.full((len(audio), 2), torch.nan))
    with pytest.raises(AudioError, match="its embedding is not finite"):
        model.embed((noise(0.1), RATE))


def test_a_table_is_continued_by_the_same_encoder_only(hf_model: Folder, sounds: Path, tmp_path: Path) -> None:
    name, out = f"hf:{hf_model('hubert')}", tmp_path / "table.parquet"
    assert main(["embed", name, str(sounds), "-o", str(out)]) == 0
    assert pq.read_table(out).num_rows == 10
    soundfile.write(sounds / "new.wav", noise(0.3), RATE)
    other = shutil.copytree(hf_model("hubert"), tmp_path / "other")
    save_file(
        {key: 1.1 * value for key, value in load_file(other / "model.safetensors").items()}, other / "model.safetensors"
    )
    with pytest.raises(ConfigError, match="the model is different"):
        unheard.embed(f"hf:{other}", sounds, out, resume=True)
    assert unheard.embed(name, sounds, out, resume=True).embedded == 1


def test_a_hear_module_embeds_frames(levels: Levels, sounds: Path, tmp_path: Path) -> None:
    assert main(["embed", "hear:levels", str(sounds), "-o", str(tmp_path / "t.parquet"), "--frames"]) == 0
    assert pq.read_table(tmp_path / "t.parquet").num_rows == sum(10 + 2 * clip for clip in range(10))


def test_frames_of_a_hear_module_need_no_scene(
    levels: Levels, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = unheard.load("hear:levels")
    monkeypatch.setattr(HearTeacher, "scenes", lambda *_: pytest.fail("the scene embedding is not used"))
    unheard.embed(model, sounds, tmp_path / "t.parquet", pool="none")
    assert pq.read_metadata(tmp_path / "t.parquet").num_rows > 10


def test_a_probe_compares_an_encoder_of_others_with_random_tiny(hf_model: Folder, sounds: Path) -> None:
    model, labels = unheard.load(f"hf:{hf_model('hubert')}"), read_labels(sounds / "labels.csv")
    options = Options(layer=1, frames=False)
    found = baselines(model, labels, (0,), options)
    assert found[RANDOM].shape == (1, 10, 960) and found[LOG_MEL].shape == (10, 160)
    layers, own = layer_vectors(model, labels), scenes(model, labels, options, "embedding")
    assert layers.shape == (10, 2, 16) and np.allclose(layers[:, 0], own, atol=1e-5)


def test_layers_of_a_hear_module_are_refused(
    levels: Levels, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib")
    command = ["probe", "hear:levels", str(sounds / "labels.csv"), "-o", str(tmp_path / "probe"), "--layers", "all"]
    assert main(command) == 2 and "no layers to choose from" in capsys.readouterr().err


def test_an_encoder_of_others_is_evaluated(hf_model: Folder, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    name = f"hf:{hf_model('hubert')}"
    for event in (False, True):
        make_task(tmp_path / "tasks" / f"tiny{event:d}-v1-full", event=event)
    assert main(["evaluate", name, str(tmp_path / "tasks"), "-o", str(tmp_path / "scores"), "--mode", "robust"]) == 0
    table = (tmp_path / "scores" / "results-robust.csv").read_text()
    assert "hubert" in table and "random" in table and "log-mel" in table
    assert [each.name for each in encoders(name)] == ["hubert", "random", "log-mel"]
    audio = torch.from_numpy(noise(1.0))[None]
    assert encoder(name).timestamps(audio)[1][0, :2].tolist() == pytest.approx([12.5, 32.5])
    assert encoder(name, runtime=Runtime(layer=1)).identity != encoder(name).identity
    for wrong in (Runtime(hop=0.01), Runtime(published="m2d"), Runtime(layer=7)):
        with pytest.raises(ConfigError):
            encoder(name, runtime=wrong)


@pytest.mark.parametrize("verb", ["reconstruct", "attention", "predict", "finetune"])
def test_verbs_that_need_a_model_of_ours_say_so(
    hf_model: Folder, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    second = sounds / ("labels.csv" if verb == "finetune" else "0.wav")
    command = [verb, f"hf:{hf_model('hubert')}", str(second)]
    assert main([*command, "-o", str(tmp_path / ("out.csv" if verb == "predict" else "out.png"))]) == 2
    assert "is no model of this library, which this needs" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="which this needs"):
        unheard.hear.load_model(f"hf:{hf_model('hubert')}")
