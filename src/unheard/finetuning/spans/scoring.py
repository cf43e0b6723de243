"""Scores of detections against annotations: event F1, and mean average precision of segments.

- Event F1: a detection matches an annotation of its recording and class if their starts differ by at most the
  tolerance; ends are not compared (Mesaros et al. 2016). The matches are a maximum matching. Counts are summed over
  recordings and classes.
- Segment mAP: recordings are divided into segments of 1 s. A segment has a class if an annotation overlaps it; its
  score is the largest of the windows whose share overlaps it. The mean is taken over the classes that occur.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unheard import bootstrap
from unheard.data.leakage import FEW_GROUPS
from unheard.data.selections.reading import is_selections, label_columns, read_selections
from unheard.data.tables import read_seconds, refuse_reversed
from unheard.datasets.selections import BACKGROUND
from unheard.embedding.tables import absolute
from unheard.errors import DataError, require
from unheard.evaluation.hear.events import SEGMENT, Events, event_counts
from unheard.finetuning.spans.formats import Recording
from unheard.finetuning.spans.merging import Share
from unheard.metrics import average_precisions

TOLERANCE = 0.2
"""Seconds: default tolerance of starts, that of DCASE (Mesaros et al. 2016)."""

Part = tuple[float, float, str]
"""Start and end in seconds, and label; an infinite end is that of the recording."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; NaN where one is undefined.

    Parameters
    ----------
    annotations, detections, matches : int
    f1, precision, recall, average_precision : float
    """

    annotations: int
    detections: int
    matches: int
    f1: float
    precision: float
    recall: float
    average_precision: float


@dataclass(frozen=True)
class SpanScores:
    """Scores of detections against annotations.

    Parameters
    ----------
    recordings : int
        Number of recordings with annotations of which at least a part could be read.
    tolerance : float
        Of starts, in seconds.
    annotations, detections, matches : int
        Numbers over all recordings and classes.
    f1, precision, recall : float
        NaN where undefined.
    interval : (float, float)
        95 % interval of ``f1`` by bootstrap over recordings; NaN for a single one.
    segment_map : float
        Mean over classes of the average precision of segments.
    segments : int
        Their number.
    notes : tuple of str
        Caveats.
    classes : dict of str to ClassScores
    """

    recordings: int
    tolerance: float
    annotations: int
    detections: int
    matches: int
    f1: float
    precision: float
    recall: float
    interval: tuple[float, float]
    segment_map: float
    segments: int
    notes: tuple[str, ...]
    classes: dict[str, ClassScores]


class Truth:
    """Annotations of recordings, with the scores of their segments while they are detected.

    Parameters
    ----------
    source : path
        A labels CSV, a Raven or Audacity file, or a folder of them. Only recordings that it names are scored; an empty
        table of Raven is a recording without annotations.
    labels : sequence of str
        Classes of the classifier.
    files : sequence of str
        Recordings of the detection.

    Raises
    ------
    DataError
        When the annotations cannot be read, have labels that are no classes, or name none of the recordings.
    UnheardError
        When scikit-learn is not installed.
    """

    def __init__(self, source: str | Path, labels: Sequence[str], files: Sequence[str]) -> None:
        require("sklearn", "eval", "scikit-learn")
        self.labels, self._numbers = tuple(labels), {name: k for k, name in enumerate(labels)}
        everything = _read(Path(source))
        wanted = set(map(absolute, files))
        self.parts = {path: parts for path, parts in everything.items() if path in wanted}
        if not self.parts:
            raise DataError(
                f"{source} names none of the {len(files)} recordings; its first one is"
                f" {next(iter(everything), 'missing')}, and the first recording is {absolute(files[0])}"
            )
        names = {label for parts in self.parts.values() for *_, label in parts} - {BACKGROUND}
        if unknown := sorted(names - set(labels)):
            raise DataError(
                f"{source} has {len(unknown)} labels that are not classes of the model, the first {unknown[0]!r}; its"
                f" classes are {', '.join(labels[:8])}{', ...' * (len(labels) > 8)}; rename the labels, or remove them"
            )
        self._scores: dict[str, list[Float[np.ndarray, " C"]]] = defaultdict(list)

    def observe(self, path: str, share: Share) -> None:
        """Raise the scores of the segments that the share of a window overlaps to at least its scores."""
        if (name := absolute(path)) in self.parts:
            rows, part = self._scores[name], _within(share.start, share.end)
            rows += [np.zeros(len(self.labels), np.float32)] * (part.stop - len(rows))
            rows[part] = [np.maximum(row, share.scores.astype(np.float32)) for row in rows[part]]

    def score(self, recordings: Iterable[Recording], tolerance: float = TOLERANCE) -> SpanScores:
        """Return the scores of the recordings that have annotations, each as far as it could be read."""
        found = [recording for recording in recordings if absolute(recording.path) in self.parts]
        split = [self._annotations(each) for each in found]
        unread = sum(len(beyond) for _, beyond in split)
        read = [each.seconds > 0 or not each.error for each in found]
        found, true = list(compress(found, read)), [parts for parts, _ in compress(split, read)]
        reference = self._events(
            (k, start, min(end, each.seconds), label)
            for k, (each, parts) in enumerate(zip(found, true, strict=True))
            for start, end, label in parts
        )
        estimated = self._events(
            (k, span.start, span.end, span.label) for k, each in enumerate(found) for span in each.spans
        )
        precisions, segments = self._segments(found, true)
        hits, claimed, there = event_counts(reference, estimated, len(found), tolerance)
        top, bottom = 2.0 * hits, (claimed + there).astype(np.float64)
        f1, precision, recall = _rates(int(hits.sum()), int(claimed.sum()), int(there.sum()))
        interval = (math.nan, math.nan)
        if len(found) > 1:
            resampled = bootstrap.replicates(bootstrap.ratio_statistic(top, bottom), np.arange(len(found)), 0)
            interval = bootstrap.bc_interval(resampled, f1)
        classes = {
            name: _class_scores(reference, estimated, k, tolerance, float(precisions[k]))
            for name, k in self._numbers.items()
            if name != BACKGROUND
        }
        known = precisions[~np.isnan(precisions)]
        return SpanScores(
            len(found), tolerance, len(reference), len(estimated), int(hits.sum()), f1, precision, recall, interval,
            float(known.mean()) if len(known) else math.nan, segments, _caveats(len(found), unread), classes,
        )  # fmt: skip

    def _annotations(self, recording: Recording) -> tuple[list[Part], list[Part]]:
        """Return the annotations of a recording, and those that begin where it could not be read."""
        parts = [part for part in self.parts[absolute(recording.path)] if part[2] != BACKGROUND]
        end = recording.seconds if recording.error else math.inf
        return [part for part in parts if part[0] < end], [part for part in parts if part[0] >= end]

    def _events(self, rows: Iterable[tuple[int, float, float, str]]) -> Events:
        parts = [(k, self._numbers[label], 1000 * start, 1000 * end) for k, start, end, label in rows]
        columns = zip(*parts, strict=True) if parts else ((), (), (), ())
        file, label, start, end = columns
        return Events(np.array(file, np.int64), np.array(label, np.int64), np.array(start, float), np.array(end, float))

    def _segments(
        self, found: Sequence[Recording], true: Sequence[Sequence[Part]]
    ) -> tuple[Float[np.ndarray, " C"], int]:
        """Return the average precision of each class over the segments, and their number."""
        scores, targets = [], []
        for recording, parts in zip(found, true, strict=True):
            rows = self._scores[absolute(recording.path)]
            target = np.zeros((len(rows), len(self.labels)), np.int64)
            for start, end, label in parts:
                target[_within(start, min(end, recording.seconds)), self._numbers[label]] = 1
            scores += rows
            targets.append(target)
        if not scores:
            return np.full(len(self.labels), math.nan), 0
        return average_precisions(np.concatenate(targets), np.stack(scores)), len(scores)


def _caveats(recordings: int, unread: int) -> tuple[str, ...]:
    few = f"only {recordings} recordings were tested: an interval over so few is too narrow"
    beyond = f"{unread} annotations are not counted, because they begin where their recording could not be read"
    return (few,) * (1 < recordings < FEW_GROUPS) + (beyond,) * (unread > 0)


def _within(start: float, end: float) -> slice:
    """Return the segments that a part overlaps."""
    return slice(math.floor(start / SEGMENT + 1e-9), math.ceil(end / SEGMENT - 1e-9))


def _rates(matches: int, detections: int, annotations: int) -> tuple[float, float, float]:
    """Return F1, precision and recall; NaN where one is undefined."""
    precision = matches / detections if detections else math.nan
    recall = matches / annotations if annotations else math.nan
    return 2 * matches / (detections + annotations) if detections + annotations else math.nan, precision, recall


def _class_scores(reference: Events, estimated: Events, k: int, tolerance: float, precision: float) -> ClassScores:
    true, claimed = (
        Events(*(getattr(events, name)[events.label == k] for name in ("file", "label", "start", "end")))
        for events in (reference, estimated)
    )
    files = int(max((*true.file, *claimed.file), default=-1)) + 1
    hits = int(event_counts(true, claimed, files, tolerance)[0].sum())
    return ClassScores(len(true), len(claimed), hits, *_rates(hits, len(claimed), len(true)), precision)


def _read(source: Path) -> dict[str, list[Part]]:
    """Return the annotations of each recording by absolute path."""
    if is_selections(source):
        selections = read_selections(source)
        return {
            absolute(str(selections.folder / path)): [(each.start, each.end, each.label) for each in annotations]
            for path, annotations in selections.annotations.items()
        }
    folder, columns = label_columns(source, ("path", "label"), ("start", "end"))
    empty, found = [""] * len(columns["path"]), defaultdict[str, list[Part]](list)
    rows = zip(columns["path"], columns["label"], columns.get("start", empty), columns.get("end", empty), strict=True)
    for number, (path, labels, first, last) in enumerate(rows, start=2):
        start = read_seconds(first, f"{source}: start of row {number}")
        end = read_seconds(last, f"{source}: end of row {number}")
        refuse_reversed(start, end, f"{source}: row {number}")
        names = [name for label in labels.split("|") if (name := label.strip())]
        parts = found[absolute(str(folder / path))]
        parts += [(start or 0.0, math.inf if end is None else end, name) for name in names]
    return dict(found)
