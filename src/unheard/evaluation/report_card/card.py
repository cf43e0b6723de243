"""Run all checks of an encoder; an error in one check is the failure of that check, and the others run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unheard.embedding.embedding_model import EmbeddingModel
from unheard.evaluation.report_card import cost, sound_files, timing, vectors
from unheard.evaluation.report_card.result import CheckResult, Outcome, ReportCard, State
from unheard.evaluation.report_card.subject import Subject, open_subject
from unheard.progress import Track, silent

Check = Callable[[Subject], Outcome]

CHECKS: dict[str, Check] = {
    "alone and in a batch": vectors.batch,
    "other lengths": vectors.padding,
    "repetition": vectors.repetition,
    "width": vectors.width,
    "finite values": vectors.finite,
    "silence": vectors.silence,
    "level": vectors.level,
    "NaN and infinite input": vectors.invalid_input,
    "one sample": cost.one_sample,
    "a tenth of a second": cost.tenth,
    "click track": timing.click,
    "order of times": timing.order,
    "coverage of times": timing.coverage,
    "file formats": sound_files.formats,
    "Ogg Vorbis": sound_files.ogg,
    "44.1 and 48 kHz": sound_files.rates,
    "8 and 16 kHz": sound_files.low_rates,
    "stereo": sound_files.channels,
    "memory": cost.memory,
    "a minute of audio": cost.long_input,
    "speed": cost.speed,
}
"""Name -> check, in the order of the report card. Memory comes before other long input, whose memory may be reused."""


def report_card(model: EmbeddingModel | str | Path, device: str = "auto", track: Track = silent) -> ReportCard:
    """Check an encoder of any kind.

    Parameters
    ----------
    model : model, path or str
        What `unheard.load` accepts, or ``xares:MODULE``.
    device : str
        Where an encoder that is given by name computes.
    track : Track
        Progress display.

    Raises
    ------
    ConfigError, CheckpointError
        When the encoder cannot be loaded.
    """
    subject = open_subject(model, device)
    checks = track(CHECKS.items(), len(CHECKS), "checks")
    return ReportCard(subject.name, subject.rate, tuple(run_check(name, check, subject) for name, check in checks))


def run_check(name: str, check: Check, subject: Subject) -> CheckResult:
    """Return the result of one check; an error of the encoder is a failure."""
    try:
        found = check(subject)
    except Exception as error:  # third-party code raises anything
        reason = " ".join(str(error).split()) or "no message"
        found = Outcome(False, f"The encoder raised {type(error).__name__}: {reason}")
    state: State = "not applicable" if found.passed is None else "pass" if found.passed else "fail"
    value = None if found.value is None or not np.isfinite(found.value) else float(found.value)
    return CheckResult(name, state, value, found.unit, found.meaning)
