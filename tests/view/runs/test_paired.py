"""Scores of two runs are paired only if they are of the same clips, labels and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unheard.bootstrap import bc_interval, mean_statistic, replicates
from unheard.evaluation.probe.files import write
from unheard.evaluation.probe.report import Prediction, ProbeReport, Score
from unheard.evaluation.report import Report, Result, save_result
from unheard.evaluation.results import as_json
from unheard.files import write_json
from unheard.view.runs.paired import paired_scores, unpaired_scores

PROTOCOL = {"clips": "a1", "seeds": 3}


def probe(folder: Path, predicted: str, groups: str = "", protocol: Mapping[str, Any] = PROTOCOL) -> None:
    """Write a probe of clips whose true class is a."""
    answers = [Prediction(k, "a", name, 0.9, groups[k] if groups else "") for k, name in enumerate(predicted)]
    value = predicted.count("a") / len(predicted)
    score = Score("model", "linear", "accuracy", value, 0.0, 1.0, [value])
    report = ProbeReport(["a", "b"], len(predicted), len(predicted), "accuracy", {"accuracy": 0.5}, [score])
    changed = {"answers": answers, "resampling_unit": "groups" if groups else "clips", "protocol": protocol}
    write(ProbeReport(**{**vars(report), **changed}), folder)


def test_the_difference_of_probes_is_a_paired_bootstrap(tmp_path: Path) -> None:
    one, two = "aabbabab", "aaababaa"
    for run, predicted in (("x", one), ("y", two)):
        probe(tmp_path / run / "probe", predicted)
        probe(tmp_path / run / "birds", predicted, "ppqqrrss")
    scores = {score.name: score for score in paired_scores(tmp_path / "x", tmp_path / "y")}
    right = [np.array([each == "a" for each in predicted]) for predicted in (one, two)]
    for name, units in (("probe", np.array(list("01234567"))), ("probe birds", np.array(list("ppqqrrss")))):
        apart = replicates(mean_statistic(right[1]), units, 0) - replicates(mean_statistic(right[0]), units, 0)
        score = scores[name]
        assert score.difference == pytest.approx(2 / 8) and score.clips == 8
        assert (score.low, score.high) == pytest.approx(bc_interval(apart))
    assert "+0.250 [" in scores["probe"].line()


def test_scores_of_different_clips_have_no_difference(tmp_path: Path) -> None:
    probe(tmp_path / "x" / "probe", "ab")
    probe(tmp_path / "y" / "other", "ab")
    assert list(paired_scores(tmp_path / "x", tmp_path / "y")) == []
    assert list(unpaired_scores(tmp_path / "x", tmp_path / "y")) == [
        f"probe is not compared: only {tmp_path / 'x'} has it",
        f"probe other is not compared: only {tmp_path / 'y'} has it",
    ]


def evaluation(
    folder: Path,
    values: list[float],
    encoder: str,
    task: str = "birds",
    protocol: Mapping[str, Any] = PROTOCOL,
    **options: Any,
) -> None:
    """Write the files of an evaluation: results of a model and a baseline, and their replicates."""
    results = []
    for name, shift in ((encoder, 0.0), ("random", -0.3)):
        replicates = [value + shift for value in values]
        means = {"accuracy": float(np.mean(replicates))}
        splits = [{"split": "test", "seed": 0, **means}]
        row = Result(
            task, name, "robust", "accuracy", means["accuracy"], 0.1, 0.9, means, splits, {}, options, replicates,
            protocol=dict(protocol),
        )  # fmt: skip
        save_result(folder / "scores" / "robust" / name / f"{task}.json", "stamp", row)
        results.append(row)
    write_json(folder / "results-robust.json", as_json(Report(results)))


def test_evaluations_of_one_name_are_compared(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    one = draws.normal(0.5, 0.05, 5000)
    two = one + draws.normal(0.1, 0.01, 5000)
    evaluation(tmp_path / "x" / "hear", one.tolist(), "x")
    evaluation(tmp_path / "y" / "hear", two.tolist(), "y")
    (score,) = paired_scores(tmp_path / "x", tmp_path / "y")
    assert (score.name, score.first.metric) == ("hear, birds", "accuracy")
    assert score.difference == pytest.approx(0.1, abs=0.01) and score.low is not None and score.high is not None
    assert 0.07 < score.low < score.high < 0.13 and score.p == pytest.approx(0, abs=0.01)
    (tmp_path / "y" / "hear" / "scores" / "robust" / "y" / "birds.json").unlink()
    (score,) = paired_scores(tmp_path / "x", tmp_path / "y")
    assert score.difference is None and "replicates" in score.reason and score.second.value > score.first.value


OTHER = [
    ({**PROTOCOL, "clips": "b2"}, "not compared: the clips, labels or splits differ"),
    ({**PROTOCOL, "seeds": 1}, "not compared: seeds 3 and 1"),
    ({"clips": "b2", "seeds": 1}, "not compared: the clips, labels or splits differ; seeds 3 and 1"),
    ({}, "of an earlier version does not store its clips and settings"),
]


@pytest.mark.parametrize(("protocol", "reason"), OTHER)
def test_probes_of_other_clips_or_settings_are_not_compared(
    protocol: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    probe(tmp_path / "x" / "probe", "abab")
    probe(tmp_path / "y" / "probe", "aabb", protocol=protocol)
    (score,) = paired_scores(tmp_path / "x", tmp_path / "y")
    assert score.difference is None and reason in score.text


@pytest.mark.parametrize(("protocol", "reason"), OTHER)
def test_evaluations_of_other_clips_or_settings_are_not_compared(
    protocol: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(0.5, 0.05, 5000).tolist()
    evaluation(tmp_path / "x" / "hear", values, "x")
    evaluation(tmp_path / "y" / "hear", values, "y", protocol=protocol)
    (score,) = paired_scores(tmp_path / "x", tmp_path / "y")
    assert score.difference is None and reason in score.text


def test_options_of_the_embeddings_must_be_equal_except_the_hop_of_the_model(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0.5, 0.05, 5000).tolist()
    evaluation(tmp_path / "x" / "hear", values, "x", pool="mean", event_hop=0.02)
    evaluation(tmp_path / "y" / "hear", values, "y", pool="mean", event_hop=0.04)
    evaluation(tmp_path / "z" / "hear", values, "z", pool="max", event_hop=0.02)
    (same,), (other,) = (list(paired_scores(tmp_path / "x", tmp_path / run)) for run in "yz")
    assert same.difference == 0 and other.text == "not compared: pool mean and max"


def test_tasks_of_one_run_are_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0.5, 0.05, 5000).tolist()
    evaluation(tmp_path / "x" / "hear", values, "x")
    evaluation(tmp_path / "y" / "hear", values, "y", task="frogs")
    assert list(paired_scores(tmp_path / "x", tmp_path / "y")) == []
    x, y = (
        f"hear, {task}, mode robust, is not compared: only {tmp_path / run} has it"
        for task, run in (("birds", "x"), ("frogs", "y"))
    )
    assert list(unpaired_scores(tmp_path / "x", tmp_path / "y")) == [x, y]
