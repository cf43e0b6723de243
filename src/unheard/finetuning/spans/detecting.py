"""Detection over recordings of any length: windows are cut while the file is decoded, scored in groups, and merged.

    file -> wav in blocks -> windows of W seconds every H seconds -> classifier, 64 at a time -> spans

Memory holds the windows of a group and the spans; it does not grow with the length of a recording.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unheard.audio.standard_input import is_standard_input
from unheard.audio.waveform import info
from unheard.datasets.selections import BACKGROUND
from unheard.embedding.segments import GROUP_SECONDS, Segment, check_window, cut_files, windows_ahead
from unheard.errors import AudioError, ConfigError
from unheard.finetuning.ensemble import CHUNK
from unheard.finetuning.spans.classifier import Waveform, WindowClassifier
from unheard.finetuning.spans.formats import Recording
from unheard.finetuning.spans.merging import Decision, Share, Shares, Span, SpanMerger
from unheard.progress import Track, silent
from unheard.read_ahead import in_background, reader_count

THRESHOLD = 0.5
"""Default threshold, and that of a class whose threshold could not be chosen (our choice)."""

TOGETHER = 8
"""Recordings whose windows may be scored together. Scores depend on nothing but these recordings, whatever number of
processes computes them (our choice).
"""

Observer = Callable[[str, Share], None]
"""Function that is called with a recording and the share and scores of each of its windows."""


@dataclass(frozen=True)
class DetectionPlan:
    """Settings of a detection.

    Parameters
    ----------
    decision : Decision
    window, hop : float
        Seconds.
    notes : tuple of str
        Remarks for the user.
    """

    decision: Decision
    window: float
    hop: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _End:
    """The end of a recording, or the reason why the rest cannot be read."""

    path: str
    error: str = ""
    seconds: float = 0.0


def plan_detection(
    classifier: WindowClassifier,
    threshold: float | str = THRESHOLD,
    *,
    min_duration: float = 0.0,
    max_gap: float = 0.0,
    window: float | None = None,
    hop: float | None = None,
) -> DetectionPlan:
    """Check the settings of a detection, and fill in those of the classifier.

    Parameters
    ----------
    threshold : float or "auto"
        Lowest score of a detection, or those stored with the classifier.
    min_duration : float
        Seconds; shorter spans are left out.
    max_gap : float
        Seconds; spans of a class that are at most this far apart are joined.
    window, hop : float, optional
        Seconds. Default: the window of the classifier, and half of it.

    Raises
    ------
    ConfigError
        When a setting is out of range, or the classifier has no thresholds.
    """
    for name, value in (("min_duration", min_duration), ("max_gap", max_gap)):
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be at least 0 seconds; got {value:g}")
    length = classifier.window if window is None else window
    step = check_window(length, length / 2 if hop is None else hop)
    values, notes = _thresholds(classifier, threshold)
    decision = Decision(classifier.labels, values, classifier.multilabel, min_duration, max_gap)
    if set(classifier.labels) == {BACKGROUND}:
        raise ConfigError(f"the only class of this model is {BACKGROUND}, so it detects nothing; train other classes")
    return DetectionPlan(decision, length, step, notes)


def _thresholds(classifier: WindowClassifier, chosen: float | str) -> tuple[Float[np.ndarray, " C"], tuple[str, ...]]:
    labels = classifier.labels
    if isinstance(chosen, str):
        if chosen != "auto":
            raise ConfigError(f"the threshold must be a number above 0, at most 1, or auto; got {chosen!r}")
        if not (stored := classifier.thresholds):
            raise ConfigError(
                "this model has no thresholds: it was fine-tuned without validation clips or by an earlier version;"
                " give a number, such as --threshold 0.5, or fine-tune it again with validation clips"
            )
        missing = [name for name, value in zip(labels, stored, strict=True) if value is None and name != BACKGROUND]
        text = f"no validation clip has {', '.join(missing)}; the threshold is {THRESHOLD:g} there"
        values = [THRESHOLD if value is None else value for value in stored]
        return np.array(values, np.float64), (text,) if missing else ()
    if not 0 < chosen <= 1:
        raise ConfigError(f"the threshold must be a number above 0, at most 1, or auto; got {chosen:g}")
    return np.full(len(labels), float(chosen)), ()


def detect_recordings(
    classifier: WindowClassifier,
    files: Sequence[str],
    plan: DetectionPlan,
    observe: Observer | None = None,
    track: Track = silent,
) -> Iterator[Recording]:
    """Yield the detections of each recording, in order.

    A recording that breaks off with an error keeps its detections up to there; ``error`` names the reason.

    Parameters
    ----------
    observe : callable, optional
        Called with the share and scores of each window.
    track : Track
        Progress over all windows.
    """
    readers = reader_count()
    items = in_background(_items(files, classifier.sample_rate, plan, readers), readers, windows_ahead(plan.window))
    current: _Open | None = None
    for group in _groups(track(items, sum(_expected(file, plan) for file in files), "detecting")):
        found = iter(_scored(classifier, [item for item in group if isinstance(item, Segment)]))
        for item in group:
            current = current or _Open(item.path, plan.decision, observe)
            if isinstance(item, _End):
                yield current.finished(item)
                current = None
                continue
            scores = next(found)
            if isinstance(scores, AudioError):
                current.fail(f"{item.start:g} to {item.end:g} s: {scores}")
            else:
                current.add(item, scores)


class _Open:
    """A recording that is not finished."""

    def __init__(self, path: str, decision: Decision, observe: Observer | None) -> None:
        self.path, self.seconds, self.error, self._observe = path, 0.0, "", observe
        self._shares, self._merger, self._spans = Shares(), SpanMerger(path, decision), list[Span]()

    def add(self, segment: Segment, scores: Float[np.ndarray, " C"]) -> None:
        """Add a window, unless there was an error."""
        if not self.error:
            self._merge(self._shares.add(segment.start, segment.end, scores))
            self.seconds = segment.end

    def _merge(self, shares: Iterator[Share]) -> None:
        for share in shares:
            self._spans += self._merger.add(share)
            if self._observe is not None:
                self._observe(self.path, share)

    def fail(self, reason: str) -> None:
        """Leave out the rest of the recording."""
        self.error = self.error or reason

    def finished(self, end: _End) -> Recording:
        """Return the recording with its spans in order of time."""
        self.fail(end.error)
        if not self.error:
            self.seconds = end.seconds
        self._merge(self._shares.finish())
        spans = sorted([*self._spans, *self._merger.finish()], key=lambda span: (span.start, span.end, span.label))
        kept = f"; its detections up to {self.seconds:g} s are kept" if self.error and self.seconds else ""
        return Recording(self.path, self.seconds, tuple(spans), f"{self.error}{kept}")


def _items(files: Iterable[str], sample_rate: int, plan: DetectionPlan, readers: int) -> Iterator[Segment | _End]:
    """Yield the windows of all files, and the end of each."""
    seconds: dict[str, float] = {}
    cut = cut_files(files, sample_rate, plan.window, plan.hop, readers=readers, ended=seconds.__setitem__)
    for file, segments in cut:
        try:
            yield from segments
            yield _End(file, seconds=round(seconds.pop(file), 6))
        except AudioError as error:
            yield _End(file, str(error).removeprefix(f"{file}: "))


def _groups(items: Iterable[Segment | _End]) -> Iterator[list[Segment | _End]]:
    """Yield consecutive items together: `CHUNK` windows, or fewer if they are long or `TOGETHER` recordings end."""
    group: list[Segment | _End] = []
    count, seconds, ends = 0, 0.0, 0
    for item in items:
        group.append(item)
        ends += isinstance(item, _End)
        apart = isinstance(item, _End) and ends % TOGETHER == 0
        if isinstance(item, Segment):
            count, seconds = count + 1, seconds + item.end - item.start
        if apart or count >= CHUNK or seconds >= GROUP_SECONDS or len(group) >= 2 * CHUNK:
            yield group
            group, count, seconds = [], 0, 0.0
    if group:
        yield group


def _scored(classifier: WindowClassifier, segments: Sequence[Segment]) -> list[Float[np.ndarray, " C"] | AudioError]:
    """Return the scores of windows, or the error of one that cannot be scored."""
    try:
        return list(classifier.scores([window_samples(segment) for segment in segments])) if segments else []
    except AudioError as error:
        if len(segments) == 1:
            return [error]
        return [result for segment in segments for result in _scored(classifier, [segment])]


def window_samples(segment: Segment) -> Waveform:
    """Return the samples of a window."""
    assert isinstance(segment.sound, tuple), "cut_file gives samples"
    return np.asarray(segment.sound[0], np.float32)


def _expected(file: str, plan: DetectionPlan) -> int:
    """Return the number of items of a file, by the length that its header states."""
    if is_standard_input(file):
        return 1
    try:
        return 2 + max(0, math.ceil((info(file).seconds - plan.window) / plan.hop))
    except AudioError:
        return 1
