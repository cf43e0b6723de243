"""Checks of very short and of long input, speed and memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from unheard.evaluation.report_card.result import Outcome
from unheard.evaluation.report_card.signals import mixture
from unheard.evaluation.report_card.subject import Subject
from unheard.evaluation.report_card.timing import UNCOVERED, hop
from unheard.evaluation.report_card.vectors import not_finite

LONG_SECONDS, TIMED_SECONDS = 60.0, 10.0
LEAST_SPEED = 1.0
"""Seconds of audio a second; below it a stream cannot be encoded (our choice)."""

MOST_MEMORY = 1024.0
"""MiB for a minute of audio (our choice)."""


def one_sample(subject: Subject) -> Outcome:
    """Encode one sample."""
    return _short(subject, np.full(1, 0.1, np.float32), "one sample")


def tenth(subject: Subject) -> Outcome:
    """Encode a tenth of a second."""
    return _short(subject, mixture(subject.rate, 0.1), "0.1 s")


def memory(subject: Subject) -> Outcome:
    """Measure the growth of resident memory while a minute of audio is encoded."""
    wav = mixture(subject.rate, LONG_SECONDS)
    subject.vector(mixture(subject.rate, 1.0))  # what the first call allocates is not counted
    grown = peak_growth(lambda: subject.vector(wav))
    if grown is None:
        return Outcome(None, "The system does not report the peak of resident memory.")
    text = f"The memory for a minute of audio is at most {MOST_MEMORY:g} MiB."
    if grown > MOST_MEMORY:
        text = f"The memory for a minute of audio exceeds {MOST_MEMORY:g} MiB, so long files may not fit."
    return Outcome(grown <= MOST_MEMORY, text, grown, "MiB a minute")


def long_input(subject: Subject) -> Outcome:
    """Encode a minute of audio, and look for frames up to its end."""
    frames, times = subject.frames([mixture(subject.rate, LONG_SECONDS)])
    if bad := not_finite(frames):
        return Outcome(False, "Frames of a minute of audio have NaN or infinite values.", bad, "values")
    step = hop(times[0]) if frames.shape[1] > 1 else LONG_SECONDS
    rest = LONG_SECONDS - float(times[0, -1])
    if rest <= UNCOVERED * step:
        return Outcome(True, "A minute of audio has finite frames up to its end.", frames.shape[1], "frames")
    return Outcome(False, "The end of a minute of audio has no frames; this many seconds are left out.", rest, "s")


def speed(subject: Subject) -> Outcome:
    """Measure seconds of audio a second with one thread of torch."""
    wav, threads = mixture(subject.rate, TIMED_SECONDS), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        subject.vector(wav[: subject.rate])
        started = time.perf_counter()
        subject.vector(wav)
        found = TIMED_SECONDS / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    text = "The encoder is faster than the sound with one thread."
    if found < LEAST_SPEED:
        text = "The encoder is slower than the sound with one thread."
    return Outcome(found >= LEAST_SPEED, text, found, "s of audio a second")


def peak_growth(call: Callable[[], object]) -> float | None:
    """Return by how many MiB resident memory grows at most during a call; None where Linux does not report it."""
    _release_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from the present size
        before = _resident("VmRSS")
    except (OSError, StopIteration):
        return None
    call()
    return max(0.0, _resident("VmHWM") - before)


def _release_free_memory() -> None:
    """Return freed memory to the system, where the C library can; a call that reused it would seem to need none."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def _short(subject: Subject, wav: np.ndarray, what: str) -> Outcome:
    vector, frames = subject.vector(wav), subject.frames([wav])[0]
    if bad := not_finite(vector, frames):
        return Outcome(False, f"Vectors of {what} have NaN or infinite values.", bad, "values")
    return Outcome(True, f"A clip of {what} has a vector and frames.", frames.shape[1], "frames")
