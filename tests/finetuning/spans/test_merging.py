"""Windows are merged to spans: shares of the time, runs, gaps, and the class of background."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unheard.finetuning.spans.merging import Decision, Share, Shares, Span, SpanMerger

LABELS = ("a", "b", "background")


def decision(threshold: float = 0.5, multilabel: bool = True, **settings: float) -> Decision:
    return Decision(LABELS, np.full(3, threshold), multilabel, **settings)


def shares_of(windows: list[tuple[float, float]], scores: np.ndarray) -> list[Share]:
    shares = Shares()
    found = [share for window, row in zip(windows, scores, strict=True) for share in shares.add(*window, row)]
    return [*found, *shares.finish()]


def spans_of(windows: list[tuple[float, float]], scores: np.ndarray, how: Decision) -> list[Span]:
    merger = SpanMerger("rec.wav", how)
    found = [span for share in shares_of(windows, scores) for span in merger.add(share)]
    return [*found, *merger.finish()]


def windows_of(count: int, window: float, hop: float) -> list[tuple[float, float]]:
    return [(k * hop, k * hop + window) for k in range(count)]


def test_windows_share_the_time_at_their_borders() -> None:
    shares = shares_of([(0, 2), (1, 3), (2, 3.5)], np.zeros((3, 3)))
    assert [(share.start, share.end) for share in shares] == [(0, 1.5), (1.5, 2.375), (2.375, 3.5)]


def test_windows_that_do_not_touch_are_spans_of_their_own() -> None:
    scores = np.array([[0.9, 0, 0], [0.8, 0, 0]])
    found = spans_of([(0, 1), (3, 4)], scores, decision())
    assert found == [Span("rec.wav", 0, 1, "a", 0.9), Span("rec.wav", 3, 4, "a", 0.8)]
    assert spans_of([(0, 1), (3, 4)], scores, decision(max_gap=2.0)) == [Span("rec.wav", 0, 4, "a", 0.9)]


def test_a_run_is_one_span_with_the_largest_score() -> None:
    scores = np.array([[0.1, 0, 0], [0.6, 0, 0], [0.9, 0.5, 0], [0.2, 0, 0]])
    found = spans_of(windows_of(4, 1.0, 0.5), scores, decision())
    assert found == [Span("rec.wav", 0.75, 1.75, "a", 0.9), Span("rec.wav", 1.25, 1.75, "b", 0.5)]


def test_background_wins_in_a_model_of_one_class_a_window_and_is_left_out() -> None:
    scores = np.array([[0.3, 0.1, 0.6], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]])
    windows = windows_of(3, 1.0, 1.0)
    assert spans_of(windows, scores, decision(0.2, multilabel=False)) == [Span("rec.wav", 1, 2, "a", 0.6)]
    several = spans_of(windows, scores, decision(0.2, multilabel=True))
    assert {(span.label, span.start, span.end) for span in several} == {("a", 0, 3), ("b", 2, 3)}


def test_short_spans_are_left_out() -> None:
    scores = np.array([[0.9, 0, 0], [0, 0, 0], [0.9, 0.9, 0], [0.9, 0, 0]])
    found = spans_of(windows_of(4, 1.0, 1.0), scores, decision(min_duration=2.0))
    assert found == [Span("rec.wav", 2, 4, "a", 0.9)]


@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_a_time_is_in_a_span_where_the_nearest_window_detects_the_class(
    rows: list[list[float]], window: int, hop: int, multilabel: bool, gap: float
) -> None:
    """By definition, on a grid of times, without the streaming state of the merger."""
    how, scores = decision(0.4, multilabel, max_gap=gap), np.array(rows)
    windows = windows_of(len(rows), window / 4, hop / 4)
    times = np.arange(0.013, windows[-1][1], 0.05)
    centre = np.array([(start + end) / 2 for start, end in windows])
    nearest = abs(times[:, None] - centre).argmin(axis=1)
    covered = np.array([windows[k][0] <= time < windows[k][1] for time, k in zip(times, nearest, strict=True)])
    found = spans_of(windows, scores, how)
    for k, label in enumerate(LABELS[:2]):
        active = np.array([how.detected(row)[k] for row in scores])[nearest] & covered
        own = sorted((span for span in found if span.label == label), key=lambda span: span.start)
        inside = np.zeros(len(times), bool)
        for span in own:
            inside |= (times >= span.start) & (times < span.end)
        assert not (active & ~inside).any()
        assert gap or (inside == active).all()
        assert all(later.start - span.end > gap for span, later in pairwise(own))
        assert all(span.score == scores[:, k][_touched(windows, span, how, scores, k)].max() for span in own)
    assert all(span.label != "background" and span.end > span.start for span in found)


def _touched(windows: list[tuple[float, float]], span: Span, how: Decision, scores: np.ndarray, k: int) -> list[int]:
    """Return the windows that detect a class and whose centre is in a span."""
    middle = [(start + end) / 2 for start, end in windows]
    return [
        index
        for index, row in enumerate(scores)
        if how.detected(row)[k] and span.start - 1e-6 <= middle[index] <= span.end + 1e-6
    ]
