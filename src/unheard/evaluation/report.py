"""Results of an evaluation, in memory and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unheard.bootstrap import N_RESAMPLES
from unheard.errors import DataError
from unheard.files import read_json, write_json


@dataclass(frozen=True)
class Result:
    """Result of one encoder on one task.

    Parameters
    ----------
    task, encoder, mode : str
    score : str
        Name of the first score of the task.
    value : float
        The first score: mean over test splits and seeds.
    low, high : float
        95 % interval of that mean, see `unheard.evaluation.comparison`.
    scores : dict of str to float
        All scores, means over test splits and seeds.
    splits : list of dict
        Scores of every test split, with ``split`` and ``seed``.
    chosen : dict
        Hyper-parameters, and the post-processing of event tasks.
    options : dict
        Options of the embedding, see `unheard.evaluation.encoders.own_encoder.Runtime`; ``event_hop`` is the hop of
        event tasks, in seconds.
    replicates : list of float
        The score of each of `N_RESAMPLES` bootstrap resamples of the test files; resample i is the same for every
        encoder. A replicate is NaN or infinite where the score is.
    smaller : bool
        Whether smaller values of the score are better.
    protocol : dict
        ``clips``, a hash of the clips with their labels and splits, and the settings of the scores. Replicates of two
        results are of the same resampled clips if it is equal. Empty in results of version 0.2.0.
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
    smaller: bool = False
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """Results of a suite, with failures and caveats.

    Parameters
    ----------
    results : list of Result
    failed : list of tuple
        (task, encoder or "", message).
    remarks : list of str
        Caveats of the scores.
    """

    results: list[Result] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def save_result(file: Path, stamp: str, found: Result) -> None:
    """Write a result with ``stamp``, the hash of its embeddings and settings."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"stamp": stamp, "result": plain(asdict(found))})


def load_result(file: Path, stamp: str) -> Result | None:
    """Return a stored result; None if its stamp differs, or the file is missing or damaged."""
    try:
        kept = read_json(file)
        result = Result(**_numbers(kept["result"]))
        return result if kept["stamp"] == stamp and len(result.replicates) == N_RESAMPLES else None
    except (OSError, DataError, TypeError, KeyError):
        return None


def stored_result(folder: Path, row: dict[str, Any]) -> Result:
    """Return a result of ``results-MODE.json`` with its replicates, which are in ``folder/scores``; without them if
    their file is missing, damaged or of other scores.
    """
    result = Result(**_numbers(row), replicates=[])
    for file in sorted((folder / "scores" / result.mode).glob(f"*/{result.task}.json")):
        try:
            kept = Result(**_numbers(read_json(file)["result"]))
        except (OSError, DataError, TypeError, KeyError):
            continue
        if kept.encoder == result.encoder and kept.scores == result.scores:
            return replace(result, replicates=kept.replicates)
    return result


def plain(value: Any) -> Any:
    """Return a value for JSON: numbers that are not finite become the strings inf, -inf and nan."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(value: Any) -> Any:
    """Invert `plain`."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if value in ("inf", "-inf", "nan") else value
