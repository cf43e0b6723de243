"""What makes the scores of a table doubtful: sounds that are on both sides, and too little to tell anything.

Three signs are looked for: files of the same bytes (or the same file) on both sides, whose parts or copies were taught
and asked; clips whose log-mel statistics are equal but for rounding, which is the same sound in another container; and
groups on both sides of a given split or fold. Without groups, names that differ in a trailing number only are pointed
out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unheard.data.leakage import few_groups, on_both_sides
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol

EQUAL = (
    1e-3  # distance of log-mel statistics, in units of their length, below which two clips are one sound; our choice
)
FEW_CLIPS = 10  # below which a class's score says little; our choice
CHUNK = 512  # tested clips compared at once
NUMBERED = re.compile(r"[\W_]*\d+[a-zA-Z]?$")

Keys = Sequence[Any]
Flags = Bool[np.ndarray, " m"]


def leakage_warnings(
    protocol: ProbeProtocol,
    predictions: Predictions,
    content: Sequence[str] | None = None,
    statistics: Float[np.ndarray, "n D"] | None = None,
) -> list[str]:
    """Warnings about a table, each a sentence with numbers.

    Parameters
    ----------
    said : list of ndarray
        Answers of the model; where sounds leak, its score without them is told.
    content : sequence of str, optional
        Hash of the bytes behind each row.
    statistics : Float[ndarray, "n D"], optional
        Log-mel mean and deviation of each row.
    """
    labels, warnings = protocol.labels, []
    copied = shared(protocol, content) if content is not None else np.zeros(len(protocol.test_indices), bool)
    if copied.any():
        warnings.append(
            f"{_leaked(protocol, predictions, copied)} come from files whose bytes are also taught (copies, or parts of one"
            " recording)"
        )
    if statistics is not None and (same := equal(protocol, statistics) & ~copied).any():
        warnings.append(
            f"{_leaked(protocol, predictions, same)} sound the same as a training clip (equal log-mel statistics)"
        )
    if any(labels.group):
        both = shared(protocol, [name or None for name in labels.group])
        if both.any():
            warnings.append(
                f"{_leaked(protocol, predictions, both)} belong to a group that is also taught; give every group one split or fold"
            )
        warnings += few_groups(protocol.groups)
    else:
        if (similar := shared(protocol, [_stem_without_index(path) for path in labels.paths]) & ~copied).any():
            warnings.append(
                f"{int(similar.sum())} of {len(similar)} tested clips have a name that differs from a training clip's in"
                " its number only; if these are takes of one recording or speaker, say so in a column group"
            )
    return warnings + _rare(protocol)


def shared(protocol: ProbeProtocol, keys: Keys) -> Flags:
    """Tested clips whose key is, in any run, also that of a clip they were taught with; None is no key."""
    return np.asarray(
        on_both_sides([(part.train, part.test) for parts in protocol.runs for part in parts], keys)[
            protocol.test_indices
        ]
    )


def equal(protocol: ProbeProtocol, statistics: Float[np.ndarray, "n D"]) -> Flags:
    """Tested clips whose statistics equal a training clip's up to `EQUAL`, and whose rows are not one and the same."""
    rows, warnings = statistics.astype(np.float64), np.zeros(len(protocol.labels), bool)
    square = np.square(rows).sum(axis=1)
    for part in (part for parts in (protocol.runs[:1] if protocol.fixed else protocol.runs) for part in parts):
        for at in range(0, len(part.test), CHUNK):
            test: Int[np.ndarray, " k"] = part.test[at : at + CHUNK]
            apart = square[test, None] + square[None, part.train] - 2 * rows[test] @ rows[part.train].T
            warnings[test] |= (apart <= EQUAL**2 * square[test, None]).any(axis=1)
    return np.asarray(warnings[protocol.test_indices])


def _leaked(protocol: ProbeProtocol, predictions: Predictions, flags: Flags) -> str:
    """How many clips these are, and what the model scores on the others, where these can tell."""
    rest, target = np.flatnonzero(~flags), protocol.labels.target[protocol.test_indices]
    count, others = (
        f"{int(flags.sum())} of {len(flags)} tested clips",
        f"the {len(rest)} others" if len(rest) > 1 else "the other one",
    )
    if not len(rest):
        return count
    if len(rest) < FEW_CLIPS:
        return f"{count} (on {others} alone a score says nothing)"
    if gone := int((target.any(axis=0) & ~target[rest].any(axis=0)).sum()):
        return f"{count} ({others} lack {gone} of the tested classes, so there is no score without them)"
    whole, without = (float(np.mean([protocol.value(answer, at) for answer in predictions])) for at in (None, rest))
    return f"{count} (on {others} {protocol.metric} of the model's linear head is {without:.3f}, not {whole:.3f})"


def _stem_without_index(path: Path) -> str | None:
    """Folder and name without a trailing number; None where nothing is left, or there is no number."""
    stem = NUMBERED.sub("", path.stem)
    return f"{path.parent}/{stem}" if stem and stem != path.stem else None


def _rare(protocol: ProbeProtocol) -> list[str]:
    labels = protocol.labels
    counts = labels.target[protocol.test_indices].sum(axis=0)
    warnings = []
    if few := [f"{labels.classes[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < FEW_CLIPS))]:
        warnings.append(
            f"{len(few)} classes have fewer than {FEW_CLIPS} tested clips, so their own scores say little: {_listed(few)}"
        )
    if absent := [labels.classes[k] for k in np.flatnonzero(counts == 0)]:
        warnings.append(f"{len(absent)} classes are never tested and count in no score: {_listed(absent)}")
    return warnings


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
