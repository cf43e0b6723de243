"""Weighted averages over tasks, and published scores of X-ARES."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from unheard.evaluation.xares.tasks import public_weights


@dataclass(frozen=True)
class Published:
    """Published scores of an encoder: by score (``mlp`` or ``knn``) and folder of the task."""

    encoder: str
    mlp: Mapping[str, float]
    knn: Mapping[str, float]
    source: str


@cache
def published() -> list[Published]:
    """Return the published scores in ``published.csv``."""
    text = files("unheard.evaluation.xares").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    found = []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        own = [row for row in rows if row["encoder"] == encoder]
        mlp, knn = ({row["task"]: float(row[name]) for row in own if row[name]} for name in ("mlp", "knn"))
        found.append(Published(encoder, mlp, knn, own[0]["source"]))
    return found


def weighted_average(scores: Mapping[str, float], weights: Mapping[str, int]) -> float:
    """Return sum(score weight) / sum(weight) over the tasks with a score."""
    return sum(score * weights[task] for task, score in scores.items()) / sum(weights[task] for task in scores)


def coverage(tasks: Collection[str]) -> str:
    """Return a line with the number of public tasks, their share of the weight, and those that are left out."""
    weights = public_weights()
    share = sum(weights[task] for task in tasks) / sum(weights.values())
    out = [task for task in weights if task not in tasks]
    left = f"; left out: {', '.join(out)}" if out else ""
    return f"weighted average over {len(tasks)} of {len(weights)} public tasks ({share:.1%} of the weight{left})"
