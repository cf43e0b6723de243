"""The description of the built-in model's release: complete, and with the scores of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tiny.release import DESCRIPTION, described

from unheard.weights.release import read_release

ROW = {
    "task": "drum-hit",
    "encoder": "unheard-tiny",
    "mode": "robust",
    "score": "acc",
    "scores": {"acc": 0.7},
    "options": {},
}


def test_the_description_has_the_teachers_and_the_scores_of_a_model(tmp_path: Path) -> None:
    several = {**ROW, "options": {"layer": [3, 12], "pool": "mean+std"}, "scores": {"acc": 0.8}}
    results = [{"results": [ROW, {**ROW, "encoder": "random"}]}, {"results": [several]}]
    assert {each.name for each in read_release(DESCRIPTION).teachers} == {"YAMNet", "CREPE", "resemblyzer"}
    (tmp_path / "release.json").write_text(json.dumps(described(results, "unheard-tiny", ["yamnet"])))
    release = read_release(tmp_path / "release.json")
    (score, other), (teacher,) = release.scores, release.teachers
    assert (other.value, other.protocol) == (0.8, "robust --layer 3 --layer 12 --pool mean+std")
    assert (score.task, score.metric, score.value, score.protocol) == ("drum-hit", "acc", 0.7, "robust")
    assert teacher.name == "YAMNet"
    with pytest.raises(SystemExit, match="no score of another; the encoders are random, unheard-tiny"):
        described(results, "another", ["yamnet"])
    with pytest.raises(SystemExit, match="does not describe the teacher vgg; it has yamnet, crepe, resemblyzer"):
        described(results, "unheard-tiny", ["vgg"])
