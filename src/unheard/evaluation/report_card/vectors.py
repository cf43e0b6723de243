"""Checks of scene vectors: batch, padding, repetition, width, finite values, level and invalid input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Float32

from unheard.evaluation.report_card.result import Outcome
from unheard.evaluation.report_card.signals import mixture
from unheard.evaluation.report_card.subject import Subject

SAME = 1e-3
"""Largest difference of equal vectors, relative to the largest value: float32 sums in another order (our choice)."""

REPEATED = 1e-6
"""Largest relative difference of two calls with the same input (our choice)."""

GAINS = (1e-3, 0.1, 10.0)
"""Factors of the level; the last one exceeds full scale (our choice)."""


def difference(found: Float[np.ndarray, "*s"], expected: Float[np.ndarray, "*s"]) -> float:
    """Return the largest difference relative to the largest expected value; NaN if a value is NaN."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
    return float(np.abs(found.astype(np.float64) - expected).max() / scale)


def cosine(found: Float[np.ndarray, " D"], expected: Float[np.ndarray, " D"]) -> float:
    """Return the cosine of two vectors; NaN if one is zero or their widths differ."""
    norms = float(np.linalg.norm(found) * np.linalg.norm(expected))
    return float(found @ expected) / norms if found.shape == expected.shape and norms else float("nan")


def not_finite(*arrays: Float[np.ndarray, "*_"]) -> int:
    """Return the number of values that are NaN or infinite."""
    return sum(int((~np.isfinite(array)).sum()) for array in arrays)


def batch(subject: Subject) -> Outcome:
    """Compare vectors of clips that are encoded alone with those of one batch."""
    wavs = [mixture(subject.rate, 2.0, seed) for seed in range(4)]
    wavs[1] = wavs[1] * np.float32(0.05)  # levels differ, so that a statistic of the batch changes a vector
    together = subject.vectors(wavs)
    worst = _worst(subject, together, wavs)
    return _same(
        worst,
        SAME,
        "A clip has the same vector alone and in a batch of four.",
        "The vector of a clip depends on the other clips of its batch.",
    )


def padding(subject: Subject) -> Outcome:
    """Compare vectors of clips that are encoded alone with those of one call with clips of other lengths."""
    wavs = [mixture(subject.rate, seconds, seed) for seed, seconds in enumerate((2.0, 0.7, 3.3))]
    together = subject.together([(wav, subject.rate) for wav in wavs])
    if together is None:
        padded = np.concatenate([wavs[0], np.zeros(subject.rate, np.float32)])
        return Outcome(
            None,
            "A call takes clips of one length, and a second of appended zeros changes the vector to this cosine.",
            cosine(subject.vector(padded), subject.vector(wavs[0])),
            "cosine",
        )
    worst = _worst(subject, together, wavs)
    return _same(
        worst,
        SAME,
        "The lengths of other clips of a call do not change the vector of a clip.",
        "The vector of a clip depends on the lengths of the other clips of a call.",
    )


def repetition(subject: Subject) -> Outcome:
    """Compare the vectors and frames of two calls with the same input."""
    wav = mixture(subject.rate, 2.0)
    first, second = subject.vector(wav), subject.vector(wav)
    early, late = subject.frames([wav])[0], subject.frames([wav])[0]
    return _same(
        float(np.max([difference(second, first), difference(late, early)])),
        REPEATED,
        "Two calls with the same input return the same vectors.",
        "Two calls with the same input return different vectors.",
    )


def width(subject: Subject) -> Outcome:
    """Compare the widths of vectors over calls with other lengths and batch sizes."""
    found = {
        subject.vectors([mixture(subject.rate, seconds)] * count).shape[1]
        for seconds, count in ((0.5, 1), (1.0, 3), (2.7, 2))
    }
    over_time = {subject.frames([mixture(subject.rate, seconds)])[0].shape[2] for seconds in (0.5, 2.7)}
    if len(found) == len(over_time) == 1:
        return Outcome(True, "All calls return vectors of one width.", found.pop(), "values")
    return Outcome(
        False,
        f"Calls return vectors of different widths: {sorted(found)}, and over time {sorted(over_time)}.",
        len(found | over_time),
        "widths",
    )


def finite(subject: Subject) -> Outcome:
    """Count values that are not finite in the outputs of a mixture, noise and a constant."""
    length = 2 * subject.rate
    noise = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    wavs = [mixture(subject.rate, 2.0), noise, np.full(length, 0.5, np.float32)]
    bad = not_finite(subject.vectors(wavs), subject.frames(wavs)[0])
    return _finite(bad, "a mixture, noise and a constant")


def silence(subject: Subject) -> Outcome:
    """Count values that are not finite in the outputs of silence."""
    wavs = [np.zeros(2 * subject.rate, np.float32)]
    return _finite(not_finite(subject.vectors(wavs), subject.frames(wavs)[0]), "digital silence")


def level(subject: Subject) -> Outcome:
    """Compare vectors of a quiet and of a loud copy with the vector of a clip; only finite values are required."""
    wav = mixture(subject.rate, 2.0)
    expected = subject.vector(wav)
    found = [subject.vector(wav * np.float32(gain)) for gain in GAINS]
    if bad := not_finite(expected, *found):
        return _finite(bad, "quiet and loud input")
    lowest = float(np.min([cosine(each, expected) for each in found]))
    text = "Vectors of quiet and loud copies (-60, -20 and +20 dB) are finite; this is their lowest cosine to the clip."
    return Outcome(True, text, lowest, "cosine")


def invalid_input(subject: Subject) -> Outcome:
    """Count the kinds of invalid samples (NaN, positive and negative infinity) that are encoded without an error."""
    accepted = []
    for value in (np.nan, np.inf, -np.inf):
        wav = mixture(subject.rate, 1.0)
        wav[len(wav) // 2] = value
        try:
            subject.vector(wav)
        except Exception:  # any error is a refusal
            continue
        accepted.append(str(value))
    if not accepted:
        return Outcome(True, "Input with NaN or infinite samples raises an error.", 0, "accepted")
    return Outcome(
        False,
        f"Input with {', '.join(accepted)} is encoded without an error, so a damaged sound gets a vector.",
        len(accepted),
        "accepted",
    )


def _worst(
    subject: Subject, together: Iterable[Float[np.ndarray, " D"]], wavs: Sequence[Float32[np.ndarray, " _"]]
) -> float:
    """Return the largest difference between vectors of one call and those of clips alone; NaN if one is NaN."""
    alone = [subject.vector(wav) for wav in wavs]
    return float(np.max([difference(row, each) for row, each in zip(together, alone, strict=True)]))


def _same(worst: float, most: float, good: str, bad: str) -> Outcome:
    return Outcome(worst <= most, good if worst <= most else bad, worst, "relative difference")


def _finite(bad: int, what: str) -> Outcome:
    text = f"Vectors of {what} have no NaN and no infinite value."
    if bad:
        text = f"Vectors of {what} have NaN or infinite values."
    return Outcome(not bad, text, bad, "values")
