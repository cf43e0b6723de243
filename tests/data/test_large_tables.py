"""Label tables of the size of AudioSet: memory grows with the number of labels, time with the number of clips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.data.class_sets import ClassSets
from unheard.data.splits import assign_folds, hold_out

CLIPS, CLASSES, CEILING = 200_000, 527, 150 * 2**20

READ = """
import resource, sys
from unheard.data.partitions import make_folds
from unheard.data.label_table import read_labels
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
labels = read_labels(sys.argv[1])
(part,) = make_folds(labels, 0, 0.1)
sizes = len(part.train), len(part.valid), len(part.test)
print(peak() - before, *labels.target.shape, *sizes, int(labels.target.counts().sum()))
"""


def test_a_table_of_many_clips_and_classes_is_small_in_memory(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    (tmp_path / "a.wav").touch()
    with (tmp_path / "labels.csv").open("w") as file:
        file.write("path,start,label,split\n")
        for clip in range(CLIPS):
            labels = f"name {clip % CLASSES}|name {clip * 7 % CLASSES}"
            file.write(f"a.wav,{clip},{labels},{'train' if clip % 100 else 'test'}\n")
    output = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "labels.csv")], check=True, capture_output=True, text=True
    ).stdout
    grown, clips, classes, train, valid, test, ones = map(int, output.split())
    assert (clips, classes, test, train + valid) == (CLIPS, CLASSES, CLIPS // 100, CLIPS - CLIPS // 100)
    assert ones == 2 * CLIPS - sum(clip * 6 % CLASSES == 0 for clip in range(CLIPS))
    assert 0.05 * train < valid <= 0.1 * CLIPS + CLASSES
    assert grown < CEILING, f"{grown / 2**20:.0f} MB"


def test_many_groups_are_divided_in_less_than_quadratic_time() -> None:
    """400,000 clips in groups of two. A class that half of the clips have fills the held-out side, so that groups are
    refused.
    """
    groups = np.repeat(np.arange(CLIPS), 2)
    strata = ClassSets.from_lists([(0, 1) if clip % 2 else (0, 2 + clip // 2 % 500) for clip in range(2 * CLIPS)], 502)
    held = hold_out(groups, strata, 0.4, seed=0)
    assert 0.2 <= held.mean() <= 0.4 and (held[::2] == held[1::2]).all()
    fold = assign_folds(groups, strata, 5, seed=0)
    assert (fold[::2] == fold[1::2]).all()
    for place in range(5):
        counts = strata.counts(np.flatnonzero(fold == place)) / strata.counts()
        assert 0.19 < counts.min() and counts.max() < 0.21


@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=20), st.data())
def test_sets_of_classes_are_the_dense_matrix(rows: list[set[int]], data: st.DataObject) -> None:
    matrix = np.array([[int(k in row) for k in range(7)] for row in rows])
    sets = ClassSets.from_lists([tuple(sorted(row)) for row in rows], 7)
    some = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)), np.int64)
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(some), max_size=len(some))), np.int64)
    assert (
        sets.shape == matrix.shape
        and np.array_equal(sets[:], matrix)
        and np.array_equal(ClassSets.from_dense(matrix)[:], matrix)
    )
    assert np.array_equal(sets[some], matrix[some]) and np.array_equal(sets.take(some)[:], matrix[some])
    assert np.array_equal(sets[len(rows) - 1], matrix[-1]) and np.array_equal(sets.first, matrix.argmax(axis=1))
    assert np.array_equal(sets.counts(some), matrix[some].sum(axis=0)) and np.array_equal(
        sets.sizes, matrix.sum(axis=1)
    )
    assert np.array_equal(sets.clips_of(3), np.flatnonzero(matrix[:, 3]))
    places = data.draw(st.permutations(range(9)))[:7]
    wide = np.zeros((len(rows), 9), int)
    wide[:, places] = matrix
    assert np.array_equal(sets.renumbered(list(places), 9)[:], wide)
    counts = sets.grouped(some, group, 4)
    for number in range(4):
        dense = np.zeros(7, int)
        classes, clips = counts.of(number)
        dense[classes] = clips
        assert np.array_equal(dense, matrix[some[group == number]].sum(axis=0))
