"""What an evaluation found, in memory and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unheard.bootstrap import N_RESAMPLES
from unheard.errors import DataError
from unheard.files import read_json, write_json


@dataclass(frozen=True)
class Result:
    """One encoder on one task.

    Parameters
    ----------
    task, encoder, mode : str
    score : str
        Name of the task's first score.
    value : float
        That score: mean over test splits and seeds.
    low, high : float
        95 % interval of that mean, see `unheard.evaluation.hear.paired_bootstrap`.
    scores : dict of str to float
        All scores, means over test splits and seeds.
    splits : list of dict
        Scores of every test split, with ``split`` and ``seed``.
    chosen : dict
        Hyper-parameters, and the post-processing of event tasks.
    options : dict
        How the encoder embedded, see `unheard.evaluation.hear.own_encoder.Runtime`; ``event_hop`` is the hop of event
        tasks, in seconds.
    replicates : list of float
        The score of each of `N_RESAMPLES` bootstrap resamples of the test files; resample i is the same for every
        encoder. NaN and infinite where the score is.
    """

    task: str
    encoder: str
    mode: str
    score: str
    value: float
    low: float
    high: float
    scores: dict[str, float]
    splits: list[dict[str, Any]]
    chosen: dict[str, Any]
    options: dict[str, Any]
    replicates: list[float]


@dataclass
class Report:
    """Results of a suite, and what went wrong.

    Parameters
    ----------
    results : list of Result
    failed : list of tuple
        (task, encoder or "", message).
    remarks : list of str
        What makes scores of a task doubtful.
    """

    results: list[Result] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def save_result(file: Path, stamp: str, found: Result) -> None:
    """Write a result, with what tells from which embeddings and settings it was made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"stamp": stamp, "result": plain(asdict(found))})


def load_result(file: Path, stamp: str) -> Result | None:
    """A stored result, unless it was made from something else or its file is damaged."""
    try:
        kept = read_json(file)
        result = Result(**_numbers(kept["result"]))
        return result if kept["stamp"] == stamp and len(result.replicates) == N_RESAMPLES else None
    except (OSError, DataError, TypeError, KeyError):
        return None


def plain(value: Any) -> Any:
    """A value that JSON can hold: numbers that are not finite become the words inf, -inf and nan."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(value: Any) -> Any:
    """The reverse of `plain`."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if value in ("inf", "-inf", "nan") else value
