"""Probes of several models: one table, paired differences, and distinct names."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.made import Levels

import unheard
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.data.leakage import content_of
from unheard.errors import ConfigError, DataError
from unheard.evaluation.probe.protocol import clips_digest


def test_several_models_share_one_table_with_paired_differences(
    stand_in: Path, levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = str(stand_in / "sounds/labels.csv"), tmp_path / "probe"
    given = ["probe", "unheard-tiny", labels, "--compare", str(stand_in / "run"), "--compare", "hear:levels"]
    assert main([*given, "-o", str(out), "--seeds", "1"]) == 0
    report = json.loads((out / "probe.json").read_text())
    others = {"run", "hear:levels", "random encoder", "log-mel mean+std"}
    assert {row["embedding"] for row in report["scores"]} == others | {"model"}
    assert {row["other"] for row in report["differences"]} == others
    assert report["about"]["compared with"] == "run, hear:levels"
    assert "| hear:levels | linear |" in capsys.readouterr().out
    assert (out / "report.html").is_file()


def test_models_of_one_name_are_refused_before_anything_is_embedded(stand_in: Path, tmp_path: Path) -> None:
    run = stand_in / "run"
    with pytest.raises(ConfigError, match="2 models have the name run"):
        unheard.probe(["random-tiny", run, run], stand_in / "sounds/labels.csv", tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_a_quick_probe_trains_one_head_without_a_curve(stand_in: Path, tmp_path: Path) -> None:
    labels, out = stand_in / "sounds/labels.csv", tmp_path / "quick"
    report = unheard.probe(stand_in / "run", labels, out, quick=True)
    (table, content), moved = (read_labels(labels), content_of(read_labels(labels).paths)), tmp_path / "moved"
    assert report.protocol == {
        "clips": clips_digest(table, content), "seeds": 1, "pooling": "mean", "layer": "last", "precision": None,
    }  # fmt: skip
    shutil.copytree(stand_in / "sounds", moved)
    assert clips_digest(read_labels(moved / "labels.csv"), content) == report.protocol["clips"]
    assert clips_digest(replace(table, group=["a"] * len(table)), content) != report.protocol["clips"]
    assert clips_digest(table, content[::-1]) != report.protocol["clips"]
    assert {score.head for score in report.scores} == {"linear"} and report.curve == []
    assert {len(score.runs) for score in report.scores} == {1}
    assert (out / "report.html").is_file() and not (out / "curve.png").exists()
    with pytest.raises(ConfigError, match="--quick uses one seed"):
        unheard.probe(stand_in / "run", labels, tmp_path / "no", quick=True, seeds=3)


def test_a_probe_in_bf16_reads_the_vectors_of_the_model_in_bf16(stand_in: Path, tmp_path: Path) -> None:
    table, out = stand_in / "sounds/labels.csv", tmp_path / "half"
    given = ["probe", str(stand_in / "run"), str(table), "-o", str(out), "--quick", "--precision", "bf16"]
    assert main(given) == 0
    stored = np.load(out / "vectors/model.npy")
    model = unheard.load(stand_in / "run", precision="bf16")
    labels = read_labels(table)
    expected = np.stack([model.embed(path).scene for path in labels.paths])
    assert np.allclose(stored, expected, atol=1e-6)
    exact = unheard.load(stand_in / "run")
    assert not np.allclose(stored, np.stack([exact.embed(path).scene for path in labels.paths]), atol=1e-6)
    assert json.loads((out / "probe.json").read_text())["about"]["precision"] == "bf16"
    with pytest.raises(ConfigError, match="loaded in float32"):
        unheard.probe(exact, table, tmp_path / "no", quick=True, precision="bf16")


def test_a_probe_that_stops_before_anything_is_embedded_leaves_no_folder(stand_in: Path, tmp_path: Path) -> None:
    table, out = stand_in / "sounds/labels.csv", tmp_path / "probe"
    with pytest.raises(ConfigError, match="layer"):
        unheard.probe(stand_in / "run", table, out, layer=99)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(ConfigError, match="layer"):
        unheard.probe(stand_in / "run", table, out, layer=99, overwrite=True)
    assert list(out.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the probe's report to .*; choose another -o"):
        unheard.probe(stand_in / "run", table, tmp_path / "file/probe")
