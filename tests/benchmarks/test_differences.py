"""Paired differences between evaluations: what is significant, and what cannot be compared."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import differences

from unheard.bootstrap import N_RESAMPLES
from unheard.evaluation.report import Result, save_result
from unheard.files import read_json, write_json


def write(folder: Path, encoder: str, values: dict[str, float], clips: str = "same") -> str:
    """An evaluation whose resamples are shared between encoders, with noise of its own."""
    for number, (task, value) in enumerate(values.items()):
        shared = np.random.default_rng(number).normal(0, 0.1, N_RESAMPLES)
        own = np.random.default_rng([number, len(encoder)]).normal(0, 0.01, N_RESAMPLES)
        samples = [float(each) for each in value + shared + own]
        scores, protocol = {"mAP": value}, {"clips": clips}
        result = Result(task, encoder, "robust", "mAP", value, 0.0, 1.0, scores, [], {}, {}, samples, protocol=protocol)
        save_result(folder / "scores" / "robust" / encoder / f"{task}.json", "stamp", result)
    return f"{folder}:{encoder}"


def test_differences_are_paired_and_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path / "a", "model", {"one": 0.6, "two": 0.5, "three": 0.9})
    second = write(tmp_path / "b", "random", {"one": 0.5, "two": 0.5})
    monkeypatch.setattr(sys, "argv", ["differences", first, second])
    differences.main()
    *lines, empty, left_out = capsys.readouterr().out.splitlines()
    assert left_out == "not of all encoders, so left out: three" and not empty
    table = {line.split("|")[1].strip(): line for line in lines[-3:]}
    assert "+0.100 [+0.0" in table["one"] and table["one"].endswith("* |")  # far less than the shared spread of 0.1
    assert "*" not in table["two"] and "three" not in table
    assert table["mean"].startswith("| mean | +0.050 [+0.0")
    assert "| mean of 2 | 0.550 | 0.500 |" in lines
    (one,) = [line for line in lines if line.startswith("| one (mAP)")]
    assert "**0.600" in one and "≈" not in one


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, "model", {"one": 0.6})
    with pytest.raises(SystemExit, match="no results of other"):
        differences.read_results(f"{tmp_path}:other", "robust")


def test_other_clips_are_refused(tmp_path: Path) -> None:
    names = [write(tmp_path / "a", "model", {"one": 0.6}), write(tmp_path / "b", "random", {"one": 0.6}, "other")]
    found = {name: differences.read_results(name, "robust") for name in names}
    with pytest.raises(SystemExit, match="random: one has other clips"):
        differences.scores(found)


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    name = write(tmp_path, "model", {"one": 0.6, "two": 0.6})
    file = tmp_path / "scores/robust/model/two.json"
    write_json(file, {**read_json(file), "result": {"task": "two"}})
    with pytest.raises(SystemExit, match="two.json is damaged or of another version"):
        differences.read_results(name, "robust")
