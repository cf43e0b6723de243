"""Checks of sound files: formats, sample types, sample rates and channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from jaxtyping import Float, Float32

from unheard.audio.waveform import from_array
from unheard.evaluation.report_card.result import Outcome
from unheard.evaluation.report_card.signals import mixture
from unheard.evaluation.report_card.subject import Subject
from unheard.evaluation.report_card.vectors import cosine

SOURCE_RATE = 48_000
LOSSLESS = (("wav", "FLOAT"), ("wav", "PCM_16"), ("flac", "PCM_16"))
FULL_RATES = (44_100, 48_000)
"""Rates in Hz that hold the band of most encoders. 8 and 16 kHz may hold less, so their cosine is reported only."""

LEAST_COSINE = {"formats": 0.999, "ogg": 0.95, "rates": 0.99, "channels": 0.9999}
"""Lowest cosine to the reference that passes (our choice)."""


def formats(subject: Subject) -> Outcome:
    """Compare vectors of WAV and FLAC files, int16 and float32, with the vector of the array."""
    found = dict(_encoded(subject, [(*kind, subject.rate) for kind in LOSSLESS]))
    return _close(found, LEAST_COSINE["formats"], "WAV and FLAC files, int16 and float32")


def ogg(subject: Subject) -> Outcome:
    """Compare the vector of an Ogg Vorbis file with the vector of the array."""
    found = dict(_encoded(subject, [("ogg", "VORBIS", subject.rate)]))
    return _close(found, LEAST_COSINE["ogg"], "an Ogg Vorbis file")


def rates(subject: Subject) -> Outcome:
    """Compare vectors of files of 44.1 and 48 kHz with the vector of the array."""
    found = dict(_encoded(subject, [("wav", "FLOAT", rate) for rate in FULL_RATES]))
    return _close(found, LEAST_COSINE["rates"], "files of 44.1 and 48 kHz")


def low_rates(subject: Subject) -> Outcome:
    """Report the cosine of files of 8 and 16 kHz; only finite vectors are required."""
    found = dict(_encoded(subject, [("wav", "FLOAT", rate) for rate in (8000, 16_000)]))
    lowest = float(np.min(list(found.values())))
    if not np.isfinite(lowest):
        return Outcome(False, "The vector of a file of 8 or 16 kHz is not finite.", lowest, "cosine")
    text = "Files of 8 and 16 kHz have finite vectors; the number is not tested, because they may lack upper bands."
    return Outcome(True, text, lowest, "cosine")


def channels(subject: Subject) -> Outcome:
    """Compare the vector of a stereo file with two equal channels with that of the mono file."""
    with TemporaryDirectory() as folder:
        wav = _at(subject.rate)
        mono, stereo = Path(folder) / "mono.wav", Path(folder) / "stereo.wav"
        soundfile.write(mono, wav, subject.rate, subtype="FLOAT")
        soundfile.write(stereo, np.stack([wav, wav], axis=1), subject.rate, subtype="FLOAT")
        found = cosine(subject.file_vector(stereo), subject.file_vector(mono))
    return _close({"stereo": found}, LEAST_COSINE["channels"], "a stereo file with two equal channels")


def _encoded(subject: Subject, kinds: list[tuple[str, str, int]]) -> Iterator[tuple[str, float]]:
    """Yield the cosine of each kind of file to the vector of the array at the rate of the encoder."""
    expected: Float[np.ndarray, " D"] = subject.vector(_at(subject.rate))
    with TemporaryDirectory() as folder:
        for suffix, subtype, rate in kinds:
            path = Path(folder) / f"{subtype}-{rate}.{suffix}"
            soundfile.write(path, _at(rate), rate, subtype=subtype)
            yield f"{suffix} {subtype} {rate} Hz", cosine(subject.file_vector(path), expected)


def _at(rate: int) -> Float32[np.ndarray, " S"]:
    """Return the sound of these checks at a sample rate."""
    return from_array(mixture(SOURCE_RATE, 3.0, seed=7), SOURCE_RATE, rate)


def _close(found: dict[str, float], least: float, what: str) -> Outcome:
    """Return whether every cosine is high enough, with the lowest one; NaN is the lowest."""
    worst = min(found, key=lambda kind: (not np.isnan(found[kind]), found[kind]))
    if found[worst] >= least:
        return Outcome(True, f"Vectors of {what} match the vector of the samples.", found[worst], "cosine")
    text = f"Vectors of {what} differ from the vector of the samples (cosine below {least:g}), most for {worst}."
    return Outcome(False, text, found[worst], "cosine")
