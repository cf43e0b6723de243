"""HEAR modules as teachers: their timestamp embeddings as a map with one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.evaluation.made import RATE, Levels

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.errors import ConfigError, DataError
from unheard.teachers.chunks import CHUNK
from unheard.teachers.hear_module import HearTeacher
from unheard.teachers.load import load_teacher
from unheard.teachers.storing import TargetsConfig, store_targets


def test_timestamps_become_a_map_with_one_row(levels: Levels) -> None:
    teacher = load_teacher("hear:levels")
    wav = torch.cat([torch.zeros(2, RATE // 2), torch.ones(2, RATE // 2)], dim=1)
    found, axes = teacher(wav), teacher.axes(RATE)
    assert found.shape == (2, 2, 1, 20) and teacher.dim == 2 and teacher.sample_rate == RATE
    assert axes.edges == () and axes.columns == pytest.approx([0.025 + 0.05 * j for j in range(20)])
    assert torch.equal(found[0, 0, 0] > 0.5, torch.tensor(axes.columns) > 0.5)


def test_the_times_of_a_length_are_asked_for_once(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, calls, own = load_teacher("hear:levels"), list[int](), levels.get_timestamp_embeddings

    def counted(audio: torch.Tensor, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(audio.shape[1])
        return own(audio, model)

    monkeypatch.setattr(levels, "get_timestamp_embeddings", counted)
    for _ in range(3):
        teacher(torch.zeros(1, 8000))
        teacher.axes(8000)
    assert calls == [8000] * 3


def test_storing_targets_runs_the_module_once_for_each_chunk(
    levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unheard.teachers.hear_module.REMEMBERED", 2)
    calls, own = list[int](), levels.get_timestamp_embeddings
    lengths = [12000, 12500, 13000, 13500, 12 * RATE]
    for number, samples in enumerate(lengths):
        soundfile.write(tmp_path / f"{number}.wav", np.full(samples, 0.1), RATE)
    pack(open_corpus(tmp_path), PackConfig(MSM_MAE_16K, "int16"), tmp_path / "packed")

    def counted(audio: torch.Tensor, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.extend([audio.shape[1]] * len(audio))
        return own(audio, model)

    monkeypatch.setattr(levels, "get_timestamp_embeddings", counted)
    stored = store_targets(tmp_path / "packed", TargetsConfig("hear:levels"), tmp_path / "targets")
    silent_ones = [RATE, CHUNK * RATE]  # to read the channels, and the axes for the header
    assert sorted(calls) == sorted([*[max(each, RATE) for each in lengths[:4]], 10 * RATE, 4 * RATE, *silent_ones])
    assert stored.index.columns.tolist() == [15, 16, 17, 17, 240]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda frames, times: (frames * torch.nan, times), "HEAR module levels returned NaN or infinity"),
        (lambda frames, times: (frames[..., :1], times), "levels returned 1 channels instead of 2"),
        (lambda frames, times: (frames[:, 1:], times[:, 1:]), "levels returned 19 columns instead of 20 for 16000"),
        (lambda frames, times: (frames[0], times), "get_timestamp_embeddings of levels: embeddings have the shape"),
        (lambda frames, times: (frames, times / 1000), "get_timestamp_embeddings of levels: .*must be milliseconds"),
        (lambda frames, times: (frames, times.flip(1)), "get_timestamp_embeddings of levels: times must increase"),
        (lambda frames, times: frames, "it must return embeddings and times"),
    ],
)
def test_a_module_that_changes_or_breaks_the_api_is_named(
    levels: Levels, monkeypatch: pytest.MonkeyPatch, wrong: Any, message: str
) -> None:
    teacher, own = load_teacher("hear:levels"), levels.get_timestamp_embeddings
    teacher(torch.zeros(1, RATE))
    monkeypatch.setattr(levels, "get_timestamp_embeddings", lambda audio, model: wrong(*own(audio, model)))
    with pytest.raises(DataError, match=message):
        teacher(torch.ones(1, RATE))


def test_scene_embeddings_of_another_width_are_refused(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, own = load_teacher("hear:levels"), levels.get_scene_embeddings
    assert isinstance(teacher, HearTeacher)
    width = teacher.scenes(torch.zeros(1, RATE)).shape[1]
    monkeypatch.setattr(levels, "get_scene_embeddings", lambda audio, model: own(audio, model)[:, :1])
    with pytest.raises(DataError, match=rf"of levels returned 1 values instead of {width}; .*one width"):
        teacher.scenes(torch.ones(1, RATE))


def test_a_table_of_a_module_whose_width_changes_is_refused_in_one_line(
    levels: Levels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.full(RATE * (1 + number), 0.1), RATE)
    own = levels.get_scene_embeddings
    monkeypatch.setattr(
        levels, "get_scene_embeddings", lambda audio, model: own(audio, model)[:, : 1 + (audio.shape[1] > RATE)]
    )
    assert main(["embed", "hear:levels", str(tmp_path), "-o", str(tmp_path / "x.parquet")]) == 2
    assert "returned 2 values instead of 1" in capsys.readouterr().err


def test_a_module_that_raises_or_lacks_a_function_is_named(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "get_timestamp_embeddings", lambda audio, model: 1 / 0)
    with pytest.raises(ConfigError, match="get_timestamp_embeddings of levels failed with ZeroDivisionError"):
        load_teacher("hear:levels")
    with pytest.raises(ConfigError, match="json has no load_model; a HEAR module needs load_model, get_scene"):
        load_teacher("hear:json")
    with pytest.raises(ConfigError, match="the module name is missing"):
        load_teacher("hear:")


def test_a_module_with_other_weights_has_another_fingerprint(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(torch.nn.Module):
        sample_rate = RATE

        def __init__(self, value: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([value]))

    prints = []
    for value in (1.0, 1.0, 2.0):
        monkeypatch.setattr(levels, "load_model", lambda value=value: Network(value))
        prints.append(load_teacher("hear:levels").fingerprint)
    assert prints[0] == prints[1] != prints[2]
