"""The description of the built-in model's release: complete, and with the scores of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tiny.release import DESCRIPTION, with_scores

from unheard.weights.release import read_release

ROW = {"task": "drum-hit", "encoder": "unheard-tiny", "mode": "robust", "score": "acc", "scores": {"acc": 0.7}}


def test_the_description_is_complete_and_takes_scores(tmp_path: Path) -> None:
    assert {each.name for each in read_release(DESCRIPTION).teachers} == {"YAMNet", "CREPE"}
    described = with_scores({"results": [ROW, {**ROW, "encoder": "random"}]}, "unheard-tiny")
    (tmp_path / "release.json").write_text(json.dumps(described))
    (score,) = read_release(tmp_path / "release.json").scores
    assert (score.task, score.metric, score.value, score.protocol) == ("drum-hit", "acc", 0.7, "robust")
    with pytest.raises(SystemExit, match="no score of another; the encoders are random, unheard-tiny"):
        with_scores({"results": [ROW, {**ROW, "encoder": "random"}]}, "another")
