"""Events are found and scored as heareval and sed_eval do it."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from unheard.evaluation.hear.events import (
    Events,
    Postprocessing,
    active_labels,
    event_f,
    find_events,
    join,
    segment_error_rate,
)
from unheard.evaluation.hear.task_folder import read_task

STORED = Path(__file__).parent / "heareval"
SCORES = json.loads((STORED / "scores.json").read_text())["tiny_events"]["scores"]["test"]


def events(*rows: tuple[int, int, float, float]) -> Events:
    file, label, start, end = np.array(rows, float).reshape(-1, 4).T
    return Events(file.astype(int), label.astype(int), start, end)


def drawn(seed: int, count: int) -> Events:
    """Events on a 50 ms grid, so that many lie exactly on the edge of a collar."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 30, count) * 50.0
    return Events(
        rng.integers(0, 2, count), rng.integers(0, 2, count), start, start + rng.integers(1, 20, count) * 50.0
    )


def matched(reference: Events, estimated: Events, collar: float, share: float | None) -> int:
    """The largest number of pairs, by trying every order."""

    def fit(i: int, j: int) -> bool:
        if (reference.file[i], reference.label[i]) != (estimated.file[j], estimated.label[j]):
            return False
        begin, end = reference.start[i] / 1000, reference.end[i] / 1000
        ends = share is None or abs(end - estimated.end[j] / 1000) <= max(collar, share * (end - begin))
        return bool(abs(begin - estimated.start[j] / 1000) <= collar and ends)

    short, long = sorted((len(reference), len(estimated)))
    swapped = len(reference) > len(estimated)
    return max(
        sum(fit(k, i) if swapped else fit(i, k) for i, k in enumerate(order))
        for order in permutations(range(long), short)
    )


@given(
    seed=st.integers(0, 10**6),
    counts=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    share=st.sampled_from([None, 0.2]),
)
def test_hits_are_a_largest_matching(seed: int, counts: tuple[int, int], share: float | None) -> None:
    reference, estimated = drawn(seed, counts[0]), drawn(seed + 1, counts[1])
    found = event_f(reference, estimated, 0.2, share)
    hits = matched(reference, estimated, 0.2, share)
    assert found["precision"] == hits / counts[1]
    assert found["recall"] == hits / counts[0]


def test_silence_has_no_precision_and_a_wrong_guess_scores_zero() -> None:
    true = events((0, 0, 100, 200))
    nothing = event_f(true, events(), 0.2)
    assert math.isnan(nothing["precision"]) and math.isnan(nothing["f_measure"])
    assert event_f(true, events((0, 1, 100, 200)), 0.2) == {"f_measure": 0.0, "precision": 0.0, "recall": 0.0}


@given(seed=st.integers(0, 10**6), counts=st.tuples(st.integers(1, 12), st.integers(0, 12)))
def test_segment_error_rate_counts_second_by_second(seed: int, counts: tuple[int, int]) -> None:
    reference, estimated = drawn(seed, counts[0]), drawn(seed + 1, counts[1])
    errors = total = 0
    for file in range(2):
        for second in range(5):
            true, found = (
                {
                    int(side.label[k])
                    for k in np.flatnonzero(side.file == file)
                    if math.floor(side.start[k] / 1000) <= second < math.ceil(side.end[k] / 1000)
                }
                for side in (reference, estimated)
            )
            hits = len(true & found)
            errors += min(len(true), len(found)) - hits + abs(len(true) - len(found))
            total += len(true)
    assert segment_error_rate(reference, estimated) == pytest.approx(errors / total)


@given(seed=st.integers(0, 10**6), frames=st.integers(2, 40), width=st.integers(0, 12))
def test_filtering_equals_scipys_median(seed: int, frames: int, width: int) -> None:
    probability = np.random.default_rng(seed).random((frames, 3))
    smooth = median_filter(probability, size=(width, 1)) if width else probability
    times, file = 50.0 * np.arange(frames), np.zeros(frames, int)
    ours = find_events(probability, file, times, Postprocessing(50.0 * width, 0))
    theirs = find_events(smooth, file, times, Postprocessing(0, 0))
    assert [ours.label.tolist(), ours.start.tolist(), ours.end.tolist()] == [
        theirs.label.tolist(),
        theirs.start.tolist(),
        theirs.end.tolist(),
    ]


def test_events_end_with_their_file_and_short_ones_are_dropped() -> None:
    probability = np.array([[0.9], [0.9], [0.9], [0.1], [0.9], [0.9]])
    found = find_events(
        probability, np.array([0, 0, 1, 1, 1, 1]), np.array([0, 50, 0, 50, 100, 150.0]), Postprocessing(0, 50)
    )
    assert [found.file.tolist(), found.start.tolist(), found.end.tolist()] == [[0, 1], [0, 100], [50, 150]]


def test_a_frame_at_either_end_of_an_event_is_inside() -> None:
    active = active_labels(events((0, 1, 100, 200)), np.array([99.0, 100, 200, 201]), 2)
    assert active[:, 1].tolist() == [False, True, True, False]


def test_stored_predictions_give_heareval_s_events_and_scores() -> None:
    task = read_task(STORED / "tasks" / "tiny_events-v1.0-full")
    with np.load(STORED / "events.predictions.npz") as stored:
        names = list(dict.fromkeys(stored["files"].tolist()))
        file = np.array([names.index(name) for name in stored["files"]])
        found = find_events(stored["prediction"], file, stored["times"], Postprocessing(250, 125))
    listed = json.loads((STORED / "events.found.json").read_text())
    theirs = sorted(
        (names.index(f), task.labels.index(e["label"]), e["start"], e["end"])
        for f, each in listed.items()
        for e in each
    )
    assert sorted(zip(found.file, found.label, found.start, found.end, strict=True)) == theirs
    true = join(
        Events(np.full(len(each), names.index(name)), each.label, each.start, each.end)
        for name, each in task.clips["test"].items()
        if isinstance(each, Events)
    )
    scored = event_f(true, found, 0.2)
    for name in ("f_measure", "precision", "recall"):
        assert scored[name] == pytest.approx(SCORES[f"test_event_onset_200ms_fms_{name}"], abs=1e-6)
    assert segment_error_rate(true, found) == pytest.approx(SCORES["test_segment_1s_er"], abs=1e-6)
