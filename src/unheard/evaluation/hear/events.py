"""Detection of events from frame probabilities, and event scores.

Definitions of sed_eval 0.2.1 (Mesaros et al., "Metrics for polyphonic sound event detection", 2016) and the
post-processing of heareval 2021.1.3. Events of all files of a split lie in flat arrays, so that every step is one pass
over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

THRESHOLD = 0.5  # heareval: fixed, never searched
SEGMENT = 1.0  # seconds of one segment of the error rate
EPSILON = np.finfo(float).eps  # added to the reference count by sed_eval


@dataclass(frozen=True)
class Events:
    """Labelled intervals of several files.

    Parameters
    ----------
    file, label : Int[ndarray, "E"]
        Indices of the file and of the label.
    start, end : Float[ndarray, "E"]
        Milliseconds.
    """

    file: Int[np.ndarray, " E"]
    label: Int[np.ndarray, " E"]
    start: Float[np.ndarray, " E"]
    end: Float[np.ndarray, " E"]

    def __len__(self) -> int:
        return len(self.file)


@dataclass(frozen=True, order=True)
class Postprocessing:
    """Post-processing of probabilities; larger settings win ties.

    Parameters
    ----------
    median_filter_ms : float
        Length of the median filter along time, 0 for none.
    min_duration : float
        Milliseconds below which an event is dropped.
    """

    median_filter_ms: float
    min_duration: float


def join(parts: Iterable[Events]) -> Events:
    """Concatenate the events of several splits, whose file indices must differ."""
    found = list(parts)
    fields = ("file", "label", "start", "end")
    return Events(*(np.concatenate([getattr(part, name) for part in found]) for name in fields))


def active_labels(events: Events, times_ms: Float[np.ndarray, " t"], labels: int) -> Bool[np.ndarray, "t C"]:
    """Return which labels are active at each time of one file, from the start to the end of an event, inclusive.

    heareval reads an interval tree with 0.0001 ms added to the end, so that the end counts.
    """
    active = np.zeros((len(times_ms), labels), bool)
    for label, start, end in zip(events.label, events.start, events.end, strict=True):
        active[(times_ms >= start) & (times_ms < end + 1e-4), label] = True
    return active


def find_events(
    probability: Float[np.ndarray, "n C"],
    file: Int[np.ndarray, " n"],
    times_ms: Float[np.ndarray, " n"],
    how: Postprocessing,
) -> Events:
    """Detect runs of frames above `THRESHOLD` after a median filter.

    Parameters
    ----------
    probability : Float[ndarray, "n C"]
        Frames of all files in any order.
    file, times_ms : ndarray, (n,)
        File and time of each frame.
    """
    order = np.lexsort((times_ms, file))
    file, times_ms, active = file[order], times_ms[order], probability[order] > THRESHOLD
    borders = np.flatnonzero(np.diff(file)) + 1
    slices = [slice(a, b) for a, b in zip([0, *borders], [*borders, len(file)], strict=True)]
    active = np.concatenate([_median(active[part], _width(times_ms[part], how.median_filter_ms)) for part in slices])
    first = np.zeros(len(file) + 1, bool)
    first[[0, *borders, len(file)]] = True
    before = np.pad(active, ((1, 0), (0, 0)))[:-1] & ~first[:-1, None]
    after = np.pad(active, ((0, 1), (0, 0)))[1:] & ~first[1:, None]
    label, start = np.nonzero((active & ~before).T)
    _, end = np.nonzero((active & ~after).T)
    kept = times_ms[end] - times_ms[start] >= how.min_duration
    label, start, end = label[kept], start[kept], end[kept]
    return Events(file[start], label, times_ms[start], times_ms[end])


def event_f(
    reference: Events, estimated: Events, t_collar: float, percentage_of_length: float | None = None
) -> dict[str, float]:
    """Return the event-based F-measure over all files, as {"f_measure", "precision", "recall"}.

    A reference and an estimate match if file and label agree and their starts differ by at most ``t_collar``. The hits
    are the size of a maximum matching.

    Parameters
    ----------
    t_collar : float
        Tolerance in seconds.
    percentage_of_length : float, optional
        Ends must agree, too, within the larger of ``collar`` and this share of the reference's length.

    Returns
    -------
    dict of str to float
        Precision is NaN without estimates, and with it the F-measure; so does sed_eval.
    """
    hits = len(_matched(reference, estimated, t_collar, percentage_of_length))
    precision = hits / len(estimated) if len(estimated) else math.nan
    recall = hits / len(reference) if len(reference) else math.nan
    f_measure = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def event_counts(
    reference: Events, estimated: Events, files: int, t_collar: float, percentage_of_length: float | None = None
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Return hits, estimated events and reference events of each file; the sums of some files give their `event_f`."""
    matched = reference.file[_matched(reference, estimated, t_collar, percentage_of_length)]
    hits, found, true = (np.bincount(file, minlength=files) for file in (matched, estimated.file, reference.file))
    return hits, found, true


def segment_error_rate(reference: Events, estimated: Events) -> float:
    """Return substitutions, deletions and insertions in segments of 1 s, divided by the active reference labels."""
    wrong, active = segment_counts(reference, estimated, int(max((*reference.file, *estimated.file), default=-1)) + 1)
    return float(wrong.sum() / (active.sum() + EPSILON))


def segment_counts(
    reference: Events, estimated: Events, files: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Return the wrong and the active labels of each file's segments; the sums of some files give their
    `segment_error_rate`.
    """
    both, labels = join([reference, estimated]), int(max((*reference.label, *estimated.label), default=0)) + 1
    length = np.zeros(files, np.int64)
    np.maximum.at(length, both.file, np.ceil(both.end / 1000 / SEGMENT).astype(np.int64))
    base, owner = np.concatenate([[0], np.cumsum(length)]), np.repeat(np.arange(files), length)
    true = _segments(reference, base[reference.file], int(base[-1]), labels)
    found = _segments(estimated, base[estimated.file], int(base[-1]), labels)
    count, claimed = true.sum(axis=1), found.sum(axis=1)
    wrong = np.minimum(count, claimed) - (true & found).sum(axis=1) + np.abs(count - claimed)
    return np.bincount(owner, wrong, minlength=files).astype(np.int64), np.bincount(
        owner, count, minlength=files
    ).astype(np.int64)


def _width(times_ms: Float[np.ndarray, " t"], median_filter_ms: float) -> int:
    """Return the length of the median filter in frames."""
    if not median_filter_ms or len(times_ms) < 2:
        return 0
    return round(median_filter_ms / float(np.mean(np.diff(times_ms))))


def _median(active: Bool[np.ndarray, "t C"], width: int) -> Bool[np.ndarray, "t C"]:
    """Whether the median of ``width`` frames is above the threshold: whether enough of them are.

    The median of scipy's filter is the value of rank width // 2, its window begins width // 2 frames earlier, and its
    border mirrors.
    """
    if width < 2:
        return active
    before = width // 2
    padded = np.pad(active, ((before, width - before - 1), (0, 0)), mode="symmetric")
    total = np.pad(np.cumsum(padded, axis=0), ((1, 0), (0, 0)))
    return np.asarray(total[width:] - total[:-width] >= width - before)


def _matched(
    reference: Events, estimated: Events, t_collar: float, percentage_of_length: float | None
) -> Int[np.ndarray, " h"]:
    """Return the reference events of a maximum matching."""
    if not len(reference) or not len(estimated):
        return np.zeros(0, np.int64)
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    pairs = _near(reference, estimated, t_collar)
    i, j = pairs
    fits = np.abs(reference.start[i] / 1000 - estimated.start[j] / 1000) <= t_collar
    if percentage_of_length is not None:
        begin, end = reference.start[i] / 1000, reference.end[i] / 1000
        fits &= np.abs(end - estimated.end[j] / 1000) <= np.maximum(t_collar, percentage_of_length * (end - begin))
    edges = csr_matrix((np.ones(int(fits.sum()), np.int8), (i[fits], j[fits])), shape=(len(reference), len(estimated)))
    return np.flatnonzero(maximum_bipartite_matching(edges, perm_type="column") >= 0)


def _near(reference: Events, estimated: Events, t_collar: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of one file and label whose starts are about ``t_collar`` apart or less; the exact test follows."""
    labels = int(max(reference.label.max(), estimated.label.max())) + 1
    apart = 10 * max(
        float(reference.start.max()), float(estimated.start.max()), 1e3
    )  # ms between groups on one shared line
    line, other = ((part.file * labels + part.label) * apart + part.start for part in (reference, estimated))
    order, slack = np.argsort(other, kind="stable"), 1000 * t_collar + 1
    low, high = np.searchsorted(other[order], line - slack), np.searchsorted(other[order], line + slack, side="right")
    count = high - low
    i = np.repeat(np.arange(len(reference)), count)
    j = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    return i, order[j]


def _segments(events: Events, base: Int[np.ndarray, " E"], length: int, labels: int) -> Bool[np.ndarray, "s C"]:
    """Return which labels are active in each segment of all files."""
    change = np.zeros((length + 1, labels), np.int64)
    np.add.at(change, (base + np.floor(events.start / 1000 / SEGMENT).astype(np.int64), events.label), 1)
    np.add.at(change, (base + np.ceil(events.end / 1000 / SEGMENT).astype(np.int64), events.label), -1)
    return np.cumsum(change, axis=0)[:-1] > 0
