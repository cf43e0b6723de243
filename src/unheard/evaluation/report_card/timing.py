"""Checks of the times of vectors over time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from unheard.evaluation.report_card.result import Outcome
from unheard.evaluation.report_card.signals import clicks, mixture
from unheard.evaluation.report_card.subject import Subject

CLICK_SECONDS, PLACES = 3.0, (0.43, 0.98, 1.52, 2.21, 2.67)
"""Duration of the click track and the times of its clicks in seconds, one a clip (our choice)."""

TIMED_SECONDS = (0.97, 2.93)
"""Durations of the clips whose times are checked; most hops do not divide them (our choice)."""

UNCOVERED = 1.5
"""Hops from the last frame to the end of a clip, at most: its own half and a rest that fills no frame (our choice)."""


def click(subject: Subject) -> Outcome:
    """Compare the time of the frame that a click changes most with the time of the click."""
    quiet, clicked = clicks(subject.rate, CLICK_SECONDS, PLACES)
    frames, times = subject.frames([quiet, *clicked])
    if frames.shape[1] < 2:
        return Outcome(None, f"A clip of {CLICK_SECONDS:g} s has one frame, so a click has no place in it.")
    change = np.linalg.norm(frames[1:] - frames[:1], axis=2)
    if not np.isfinite(change).all():
        return Outcome(False, "Frames of a click track have NaN or infinite values.")
    found = np.take_along_axis(times[1:], change.argmax(axis=1)[:, None], axis=1)[:, 0]
    late, step = found - np.asarray(PLACES), hop(times[0])
    worst = float(np.abs(late).max())
    if worst <= step:
        text = f"The frame that a click changes most lies within one hop ({1000 * step:.3g} ms) of the click."
    else:
        text = (
            f"The frame that a click changes most is more than one hop ({1000 * step:.3g} ms) away from the click;"
            f" in the median it is {1000 * abs(np.median(late)):.4g} ms {'late' if np.median(late) > 0 else 'early'}."
        )
    return Outcome(worst <= step, text, 1000 * worst, "ms")


def order(subject: Subject) -> Outcome:
    """Count times that do not increase, or that lie outside the clip."""
    wrong = 0
    for seconds in TIMED_SECONDS:
        times = subject.frames([mixture(subject.rate, seconds)])[1][0]
        outside = ~((times >= 0) & (times <= seconds + 1e-3))
        wrong += int(outside.sum()) + int((~(np.diff(times) > 0)).sum())
    if not wrong:
        return Outcome(True, "Times increase from frame to frame and lie in the clip.", 0, "wrong times")
    return Outcome(False, "Times do not increase, or lie outside the clip.", wrong, "wrong times")


def coverage(subject: Subject) -> Outcome:
    """Measure the part at the start or the end of a clip that no frame covers, in hops."""
    uncovered = []
    for seconds in TIMED_SECONDS:
        times = subject.frames([mixture(subject.rate, seconds)])[1][0]
        step = hop(times) if len(times) > 1 else seconds
        uncovered.append(max(times[0], seconds - times[-1]) / step)
    worst = float(max(uncovered))
    text = f"Frames cover a clip from its start to its end, up to {UNCOVERED:g} hops."
    if not worst <= UNCOVERED:
        text = f"A part at the start or the end of a clip, longer than {UNCOVERED:g} hops, has no frame."
    return Outcome(worst <= UNCOVERED, text, worst, "hops")


def hop(times: Float[np.ndarray, " t"]) -> float:
    """Return the median time from frame to frame in seconds."""
    return float(np.median(np.diff(times)))
