"""Windows of a recording to spans: what counts as detected, and which windows form one span.

    window k from s_k to e_k, centre c_k:   its share of the time is  [(c_{k-1} + c_k) / 2, (c_k + c_{k+1}) / 2]

A window stands for the times that are nearer to its centre than to that of another window; the first share begins with
the first window, the last one ends with the last. Between windows that do not touch there is no share.

A span is a run of shares that touch, or lie at most a given gap apart, whose windows all detect one class. Its score is
the largest of its windows (our choice). The class `BACKGROUND`, of parts without a sound of interest, gives no spans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unheard.datasets.selections import BACKGROUND

ROUNDING = 1e-9
"""Seconds: times that differ by less are equal."""


@dataclass(frozen=True)
class Span:
    """A detection.

    Parameters
    ----------
    path : str
        The recording.
    start, end : float
        Seconds.
    label : str
    score : float
        Largest score of its windows.
    """

    path: str
    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True, eq=False)
class Decision:
    """What counts as detected in a window.

    Parameters
    ----------
    labels : tuple of str
    thresholds : Float[ndarray, "C"]
        A class is detected if its score is at least this.
    multilabel : bool
        Whether a window can have several classes. Otherwise only the class with the highest score can be detected, so
        that no other class is detected where `BACKGROUND` has the highest score.
    min_duration : float
        Shorter spans are left out, in seconds.
    max_gap : float
        Spans of a class that are at most this far apart are joined, in seconds.
    """

    labels: tuple[str, ...]
    thresholds: Float[np.ndarray, " C"]
    multilabel: bool
    min_duration: float = 0.0
    max_gap: float = 0.0

    def detected(self, scores: Float[np.ndarray, " C"]) -> Bool[np.ndarray, " C"]:
        """Return which classes are detected in a window with these scores."""
        found = scores >= self.thresholds
        if not self.multilabel:
            found &= np.arange(len(scores)) == scores.argmax()
        return np.asarray(found & (np.array(self.labels) != BACKGROUND))


@dataclass(frozen=True, eq=False)
class Share:
    """The part of a recording that a window stands for.

    Parameters
    ----------
    start, end : float
        Seconds.
    scores : Float[ndarray, "C"]
        Those of the window.
    """

    start: float
    end: float
    scores: Float[np.ndarray, " C"]


class Shares:
    """Divides the time of one recording among its windows, which are given in order of time."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._latest: tuple[float, float, Float[np.ndarray, " C"]] | None = None

    def add(self, start: float, end: float, scores: Float[np.ndarray, " C"]) -> Iterator[Share]:
        """Add the next window. Yield the share of the window before it."""
        begin = start
        if self._latest is not None:
            first, last, earlier = self._latest
            if start <= last:
                begin = last = (first + last + start + end) / 4
            yield Share(self._begin, last, earlier)
        self._begin, self._latest = begin, (start, end, scores)

    def finish(self) -> Iterator[Share]:
        """Yield the share of the last window."""
        if self._latest is not None:
            yield Share(self._begin, self._latest[1], self._latest[2])
            self._latest = None


class SpanMerger:
    """Merges the shares of one recording, given in order of time, in memory that does not grow with their number.

    Parameters
    ----------
    path : str
    decision : Decision
    """

    def __init__(self, path: str, decision: Decision) -> None:
        self.path, self.decision = path, decision
        self._open: dict[int, tuple[float, float, float]] = {}  # start, end and largest score of the span of a class

    def add(self, share: Share) -> Iterator[Span]:
        """Add the next share. Yield the spans that no later share can extend."""
        for k in np.flatnonzero(self.decision.detected(share.scores)).tolist():
            if not self._near(k, share.start):
                yield from self._close(k)
            start, _, best = self._open.get(k, (share.start, 0.0, 0.0))
            self._open[k] = (start, share.end, max(best, float(share.scores[k])))
        for k in [k for k in self._open if not self._near(k, share.end)]:
            yield from self._close(k)

    def finish(self) -> Iterator[Span]:
        """Yield the spans that end with the recording."""
        for k in list(self._open):
            yield from self._close(k)

    def _near(self, k: int, time: float) -> bool:
        """Return whether a share from this time on can extend the span of a class."""
        return k in self._open and time - self._open[k][1] <= self.decision.max_gap + ROUNDING

    def _close(self, k: int) -> Iterator[Span]:
        start, end, score = self._open.pop(k, (0.0, -1.0, 0.0))
        if end - start >= self.decision.min_duration - ROUNDING:
            yield Span(self.path, round(start, 6), round(end, 6), self.decision.labels[k], score)
