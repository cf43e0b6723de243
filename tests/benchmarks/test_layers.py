"""The choice of layers, over tasks of noise and tones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from benchmarks import layers

from unheard.data.label_table import read_labels
from unheard.datasets.generate import make_sounds


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    make_sounds(tmp_path / "sounds", 60, seed=0)
    return tmp_path / "sounds" / "labels.csv"


def test_the_layer_with_the_classes_is_the_best_and_test_clips_do_not_count(labels: Path) -> None:
    table, rng = read_labels(labels), np.random.default_rng(0)
    vectors = rng.standard_normal((len(table), 3, 20))
    vectors[:, 1, 10:] += 3 * rng.standard_normal((len(table.classes), 10))[table.index]  # deviation of layer 2
    found = layers.scores_of_choices(vectors, table)
    best = max(found, key=lambda choice: found[choice])
    assert 2 in best[0] and best[1] == "mean+std" and found[(2,), "mean"] < 0.5 < found[(2,), "mean+std"]
    assert len(found) == 2 * (3 + 2 + 1)
    vectors[[split == "test" for split in table.split]] = 0
    assert layers.scores_of_choices(vectors, table) == found


def test_the_table_has_a_row_for_each_choice(labels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "layers.csv"
    monkeypatch.setattr("sys.argv", ["layers", "random-tiny", str(tmp_path), "-o", str(out)])
    layers.main()
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (12 + 11 + 1) and {row["size"] for row in rows} >= {"960", "3840"}
    assert [float(row["chosen"]) for row in rows] == sorted((float(row["chosen"]) for row in rows), reverse=True)
    assert all(0 <= float(row["sounds"]) <= 1 for row in rows)
