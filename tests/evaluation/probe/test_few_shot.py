"""Few-shot scores of a probe: the draws and the classifier of MAEB, in the report and from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unheard.cli import main
from unheard.data.label_table import Labels
from unheard.errors import ConfigError
from unheard.evaluation.probe.few_shot import selections
from unheard.evaluation.probe.probe import ProbeConfig, probe_embeddings

Table, Clouds = Callable[..., Labels], Callable[..., np.ndarray]
FEW = ProbeConfig(seeds=(0,), heads=("linear",), C=0.03, n_resamples=50, curve=False, shots=3, draws=4)


def test_a_draw_takes_the_first_clips_of_each_class_in_orders_of_one_permutation() -> None:
    classes = np.array([0] * 10 + [1] * 6 + [2] * 2)
    found = list(selections(classes, 3, 5))
    order = np.arange(18)
    for rows in found:
        np.random.RandomState(42).shuffle(order)
        expected = {label: [row for row in order if classes[row] == label][:3] for label in range(3)}
        assert sorted(rows) == sorted(row for members in expected.values() for row in members)
        assert [row for row in order if row in set(rows)] == list(rows)
    assert all(np.bincount(classes[rows]).tolist() == [3, 3, 2] for rows in found)
    assert len({tuple(sorted(rows)) for rows in found}) == 5


def test_scores_are_those_of_scikit_learn_on_unscaled_vectors(table: Table, clouds: Clouds) -> None:
    from sklearn.linear_model import LogisticRegression

    classes = [i % 4 for i in range(120)]
    labels = table(classes, split=["train" if i < 80 else "test" for i in range(120)])
    vectors, noise = clouds(classes, 1.0), np.random.default_rng(1).standard_normal((120, 8))
    report = probe_embeddings({"model": vectors, "noise": noise}, labels, FEW)
    model, other = report.few_shot
    values, truth = [], np.array(classes)
    for rows in selections(truth[:80], 3, 4):
        head = LogisticRegression(max_iter=100, random_state=42).fit(vectors[rows], truth[rows])
        values.append(head.score(vectors[80:], truth[80:]))
    assert model.draws == pytest.approx(values) and model.clips == 12
    assert (model.mean, model.std) == pytest.approx((np.mean(values), np.std(values)))
    assert other.embedding == "noise" and other.mean < model.mean - 0.2
    assert "| model | 3 clips per class | accuracy |" in report.table()


def test_with_folds_every_clip_is_tested_in_each_draw(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(60)]
    labels = table(classes, fold="".join(str(i // 2 % 3) for i in range(60)))
    (model,) = probe_embeddings({"model": clouds(classes, 6.0)}, labels, FEW).few_shot
    assert model.mean > 0.95 and model.clips == 6


def test_several_labels_are_refused(table: Table) -> None:
    labels = table([[0, 1], [0], [1], [0, 1]] * 20, split=["train"] * 40 + ["test"] * 40)
    with pytest.raises(ConfigError, match="--shots needs a table with one label per clip"):
        probe_embeddings({"model": np.random.default_rng(0).standard_normal((80, 4))}, labels, FEW)


def test_the_command_writes_few_shot_scores(stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["probe", "random-tiny", str(stand_in / "sounds/labels.csv"), "--seeds", "1", "--shots", "2"]
    assert main([*given, "-o", str(tmp_path / "none"), "--draws", "0"]) == 2
    assert "--shots and --draws must be at least 1" in capsys.readouterr().err
    assert main([*given, "-o", str(tmp_path / "out"), "--draws", "3"]) == 0
    rows = json.loads((tmp_path / "out/probe.json").read_text())["few_shot"]
    assert [row["embedding"] for row in rows] == ["model", "random encoder", "log-mel mean+std"]
    assert all(row["shots"] == 2 and len(row["draws"]) == 3 for row in rows)
    assert "Few-shot scores" in (tmp_path / "out/report.html").read_text()
    assert (tmp_path / "out/few_shot.csv").is_file()
