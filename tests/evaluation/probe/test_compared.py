"""Probes of several models: one table, paired differences, and distinct names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.evaluation.made import Levels

import unheard
from unheard.cli import main
from unheard.errors import ConfigError


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
    assert {score.head for score in report.scores} == {"linear"} and report.curve == []
    assert {len(score.runs) for score in report.scores} == {1}
    assert (out / "report.html").is_file() and not (out / "curve.png").exists()
    with pytest.raises(ConfigError, match="--quick uses one seed"):
        unheard.probe(stand_in / "run", labels, tmp_path / "no", quick=True, seeds=3)
