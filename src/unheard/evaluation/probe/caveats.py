"""Caveats of probe scores: leakage between training and test clips, and too few test clips.

Leakage is detected by: files with the same bytes, clips with the same log-mel statistics (the same sound in another
container), and groups in both splits. Without groups, file names that differ only in a trailing number are reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unheard.data.leakage import few_groups, listed, not_in_map, on_both_sides
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol
from unheard.metrics import only_positive

EQUAL = (
    1e-3  # distance of log-mel statistics, in units of their length, below which two clips are one sound; our choice
)
FEW_CLIPS = 10  # below this number of test clips, scores are unreliable; our choice
CHUNK = 512  # test clips compared at a time
NUMBERED = re.compile(r"[\W_]*\d+[a-zA-Z]?$")

Keys = Sequence[Any]
Flags = Bool[np.ndarray, " m"]


def leakage_warnings(
    protocol: ProbeProtocol,
    head: str,
    predictions: Predictions,
    content: Sequence[str] | None = None,
    statistics: Float[np.ndarray, "n D"] | None = None,
) -> list[str]:
    """Return warnings about leakage and small classes.

    Parameters
    ----------
    protocol : ProbeProtocol
    head : str
    predictions : list of ndarray
        Predictions of the model with this head, to compute its score without leaked clips.
    content : sequence of str, optional
        Hash of the audio bytes of each row.
    statistics : Float[ndarray, "n D"], optional
        Log-mel mean and deviation of each row.
    """
    labels, warnings = protocol.labels, []
    copied = shared(protocol, content) if content is not None else np.zeros(len(protocol.test_indices), bool)
    if copied.any():
        warnings.append(
            f"{_leaked(protocol, head, predictions, copied)} are from files with the same bytes as training files"
            " (copies, or parts of one recording)"
        )
    if statistics is not None and (same := equal(protocol, statistics) & ~copied).any():
        warnings.append(
            f"{_leaked(protocol, head, predictions, same)} are equal to a training clip (same log-mel statistics)"
        )
    if any(labels.group):
        both = shared(protocol, [name or None for name in labels.group])
        if both.any():
            warnings.append(
                f"{_leaked(protocol, head, predictions, both)} belong to a group that is also in training; put every"
                " group into one split or fold"
            )
        warnings += few_groups(protocol.groups)
    else:
        if (similar := shared(protocol, [_stem_without_index(path) for path in labels.paths]) & ~copied).any():
            warnings.append(
                f"{int(similar.sum())} of {len(similar)} test clips have names that differ from those of training clips"
                " only in a number; if they are of the same recording or speaker, add a column group"
            )
    return warnings + _rare(protocol)


def shared(protocol: ProbeProtocol, keys: Keys) -> Flags:
    """Return the test clips whose key is also that of a training clip in any run; None is ignored."""
    return np.asarray(
        on_both_sides([(part.train, part.test) for parts in protocol.runs for part in parts], keys)[
            protocol.test_indices
        ]
    )


def equal(protocol: ProbeProtocol, statistics: Float[np.ndarray, "n D"]) -> Flags:
    """Return the test clips whose statistics equal those of another training clip up to `EQUAL`."""
    rows, warnings = statistics.astype(np.float64), np.zeros(len(protocol.labels), bool)
    square = np.square(rows).sum(axis=1)
    for part in (part for parts in (protocol.runs[:1] if protocol.fixed else protocol.runs) for part in parts):
        for at in range(0, len(part.test), CHUNK):
            test: Int[np.ndarray, " k"] = part.test[at : at + CHUNK]
            apart = square[test, None] + square[None, part.train] - 2 * rows[test] @ rows[part.train].T
            warnings[test] |= (apart <= EQUAL**2 * square[test, None]).any(axis=1)
    return np.asarray(warnings[protocol.test_indices])


def _leaked(protocol: ProbeProtocol, head: str, predictions: Predictions, flags: Flags) -> str:
    """Return the number of affected clips, and the score of the model without them, if it can be computed."""
    rest, target = np.flatnonzero(~flags), protocol.labels.target[protocol.test_indices]
    count, others = (
        f"{int(flags.sum())} of {len(flags)} test clips",
        f"the {len(rest)} others" if len(rest) > 1 else "the other one",
    )
    if not len(rest):
        return count
    if len(rest) < FEW_CLIPS:
        return f"{count} (there are too few other clips for a score without them)"
    if gone := int((target.any(axis=0) & ~target[rest].any(axis=0)).sum()):
        return f"{count} ({others} lack {gone} of the tested classes, so there is no score without them)"
    whole, without = (float(np.mean([protocol.value(answer, at) for answer in predictions])) for at in (None, rest))
    return f"{count} (on {others} {protocol.metric} of the model's {head} head is {without:.3f}, not {whole:.3f})"


def _stem_without_index(path: Path) -> str | None:
    """Return folder and name without a trailing number; None if there is no number or nothing remains."""
    stem = NUMBERED.sub("", path.stem)
    return f"{path.parent}/{stem}" if stem and stem != path.stem else None


def _rare(protocol: ProbeProtocol) -> list[str]:
    labels = protocol.labels
    counts = labels.target[protocol.test_indices].sum(axis=0)
    warnings = []
    if few := [f"{labels.classes[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < FEW_CLIPS))]:
        warnings.append(
            f"{len(few)} classes have fewer than {FEW_CLIPS} test clips, so their scores are unreliable: {listed(few)}"
        )
    if absent := [labels.classes[k] for k in np.flatnonzero(counts == 0)]:
        warnings.append(f"{len(absent)} classes have no test clips and are not part of the scores: {listed(absent)}")
    marks = labels.ternary_targets[protocol.test_indices]
    return warnings + not_in_map([labels.classes[k] for k in np.flatnonzero(only_positive(marks, marks >= 0))])
