"""Scores of detections against annotations: closed forms, and annotations that cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from tests.finetuning.spans.made import ToneClassifier, write_tones

import unheard
from unheard.errors import ConfigError, DataError
from unheard.finetuning.spans.formats import Recording
from unheard.finetuning.spans.merging import Share, Span
from unheard.finetuning.spans.scoring import Truth

LABELS = ("background", "high", "low")


def truth_of(tmp_path: Path, rows: list[str], names: list[str], header: str = "path,start,end,label") -> Truth:
    (tmp_path / "truth.csv").write_text("\n".join([header, *rows]) + "\n")
    return Truth(tmp_path / "truth.csv", LABELS, [str(tmp_path / name) for name in names])


def recording(tmp_path: Path, name: str, seconds: float, *spans: tuple[float, float, str]) -> Recording:
    path = str(tmp_path / name)
    return Recording(path, seconds, tuple(Span(path, *span, 0.9) for span in spans))


def test_event_f1_is_that_of_the_counts(tmp_path: Path) -> None:
    """5 annotations, 4 detections, 2 of which match: F1 = 4 / 9."""
    rows = ["a.wav,1,2,low", "a.wav,4,5,low|high", "b.wav,1,2,high", "b.wav,7,8,low", "b.wav,0,0.5,background"]
    truth = truth_of(tmp_path, [*rows, "other.wav,1,2,low"], ["a.wav", "b.wav", "unannotated.wav"])
    found = [
        recording(tmp_path, "a.wav", 10.0, (1.15, 3, "low"), (4.3, 5, "low"), (4.0, 5, "high")),
        recording(tmp_path, "b.wav", 10.0, (1.1, 2, "low")),
        recording(tmp_path, "unannotated.wav", 10.0, (1, 2, "low")),
    ]
    scores = truth.score(found, 0.2)
    assert (scores.recordings, scores.annotations, scores.detections, scores.matches) == (2, 5, 4, 2)
    assert (scores.f1, scores.precision, scores.recall) == (pytest.approx(4 / 9), 0.5, 0.4)
    assert scores.interval[0] <= scores.f1 <= scores.interval[1]
    low, high = scores.classes["low"], scores.classes["high"]
    assert (low.annotations, low.detections, low.matches, low.f1) == (3, 3, 1, pytest.approx(1 / 3))
    assert (high.annotations, high.detections, high.matches, high.precision) == (2, 1, 1, 1.0)
    assert truth.score(found, 0.3).matches == 3
    assert "background" not in scores.classes


def test_segments_have_the_largest_score_of_their_windows(tmp_path: Path) -> None:
    """Segments of 1 s of two recordings, scored by scikit-learn."""
    truth = truth_of(tmp_path, ["a.wav,0.5,2,low", "b.wav,,,high"], ["a.wav", "b.wav"])
    shares = [("a.wav", 0, 0.6, 0.2), ("a.wav", 0.6, 1.0, 0.7), ("a.wav", 1.0, 2.4, 0.4), ("a.wav", 2.4, 4, 0.5)]
    for name, start, end, score in [*shares, ("b.wav", 0, 2, 0.1)]:
        truth.observe(str(tmp_path / name), Share(start, end, np.array([0.0, 1 - score, score])))
    scores = truth.score([recording(tmp_path, "a.wav", 4.0), recording(tmp_path, "b.wav", 2.0)])
    low, high = [0.7, 0.4, 0.5, 0.5, 0.1, 0.1], [0.8, 0.6, 0.6, 0.5, 0.9, 0.9]
    expected = average_precision_score([1, 1, 0, 0, 0, 0], low), average_precision_score([0, 0, 0, 0, 1, 1], high)
    assert scores.segments == 6 and scores.segment_map == pytest.approx(np.mean(expected))
    assert scores.classes["low"].average_precision == pytest.approx(expected[0])


def test_perfect_detections_have_perfect_scores(tmp_path: Path) -> None:
    parts = {"a.wav": [(2.0, 4.0, "low"), (6.0, 9.0, "high")], "b.wav": [(3.0, 5.0, "high")]}
    for name, each in parts.items():
        write_tones(tmp_path / name, 12.0, each)
        lines = "".join(f"{start}\t{end}\t{label}\n" for start, end, label in each)
        (tmp_path / name).with_suffix(".txt").write_text(lines)
    scores = unheard.detect(ToneClassifier(), tmp_path, truth=tmp_path, hop=0.1, threshold=0.4, tolerance=0.5).scores
    assert scores is not None
    assert (scores.recordings, scores.annotations, scores.f1, scores.interval) == (2, 3, 1.0, (1.0, 1.0))
    assert scores.segment_map == 1.0


def test_without_detections_precision_is_undefined(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["a.wav,1,2,low"], ["a.wav"])
    scores = truth.score([recording(tmp_path, "a.wav", 3.0)])
    assert (scores.f1, scores.recall) == (0.0, 0.0) and math.isnan(scores.precision)
    assert math.isnan(scores.interval[0]) and math.isnan(scores.segment_map)


def test_annotations_count_as_far_as_their_recording_could_be_read(tmp_path: Path) -> None:
    """In a.wav, 2 of 10 s could be read; in lost.wav nothing. Both scores leave the rest out, and a note states it."""
    rows = ["a.wav,0.5,1,low", "a.wav,5,6,low", "b.wav,0.5,1,low", "lost.wav,0,1,low", "lost.wav,,,high"]
    truth = truth_of(tmp_path, rows, ["a.wav", "b.wav", "lost.wav"])
    for name in ("a.wav", "b.wav"):
        truth.observe(str(tmp_path / name), Share(0, 1, np.array([0.0, 0.1, 0.9])))
        truth.observe(str(tmp_path / name), Share(1, 2, np.array([0.9, 0.0, 0.1])))
    found = [
        replace(recording(tmp_path, "a.wav", 2.0, (0.5, 1, "low")), error="truncated"),
        recording(tmp_path, "b.wav", 2.0, (0.5, 1, "low")),
        replace(recording(tmp_path, "lost.wav", 0.0), error="no audio"),
    ]
    scores = truth.score(found)
    assert (scores.recordings, scores.annotations, scores.f1, scores.segment_map) == (2, 2, 1.0, 1.0)
    few, unread = scores.notes
    assert "only 2 recordings" in few and "3 annotations are not counted" in unread
    whole = truth.score([replace(each, error="") for each in found[:2]])
    assert whole.annotations == 3 and len(whole.notes) == 1


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a.wav,1,2,owl"], "path,start,end,label", "has 1 labels that are not classes of the model, the first 'owl'"),
        (["z.wav,1,2,low"], "path,start,end,label", "names none of the 1 recordings"),
        (["a.wav,2,1,low"], "path,start,end,label", "row 2"),
        (["a.wav,1,2"], "path,start,end", "label"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(
    tmp_path: Path, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        truth_of(tmp_path, rows, ["a.wav"], header)


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    file = write_tones(tmp_path / "a.wav", 3.0, [])
    (tmp_path / "truth.csv").write_text("path,start,end,label\na.wav,1,2,low\n")
    with pytest.raises(ConfigError, match="leave --resume out"):
        unheard.detect(ToneClassifier(), file, tmp_path / "o.csv", truth=tmp_path / "truth.csv", resume=True)
    with pytest.raises(ConfigError, match="tolerance must be above 0"):
        unheard.detect(ToneClassifier(), file, truth=tmp_path / "truth.csv", tolerance=0.0)
    assert not list(tmp_path.glob("*o.csv*"))
