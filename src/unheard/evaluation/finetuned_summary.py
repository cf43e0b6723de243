"""What a classifier's answers are worth: scores with intervals, a row for each class, who is taken for whom; and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard.data.label_table import Index, Labels
from unheard.evaluation.probe_files import write_confusion
from unheard.files import write_table
from unheard.metrics import average_precision, confusion_matrix, grouped_interval, roc_auc, wilson_interval
from unheard.training.finetune_choice import scores
from unheard.training.run import write_json

Table = Float[NDArray[Any], "n C"]
MOST_ROUNDS, LEAST_ROUNDS, WORK = 1000, 20, 2e8  # of the bootstrap: as in the probe, fewer where clips times classes are many (our choice)


@dataclass(frozen=True)
class FinetuneScores:
    """Scores of a classifier on clips it was not trained on.

    Parameters
    ----------
    metric : str
        "balanced_accuracy" or "mAP"; "accuracy" where all clips are of one class.
    mean, spread : float
        Over the parts, one for each fold; the spread is their standard deviation, 0 for one part.
    low, high : float
        95 % interval of the metric when the clips of all parts, or whole groups of them, are drawn again.
    parts : list of dict
        Every score of each part, with its name and number of clips.
    pooled : dict
        Every score over the clips of all parts together.
    intervals : dict
        95 % interval of every pooled score but the loss.
    classes : list of dict
        For each class its name, clips, precision and recall with its 95 % interval (Wilson), or average precision and ROC AUC.
    confusion : list of list of int
        Clips of each true class (row) taken for each class (column); empty where clips have several.
    notes : list of str
        What a reader must know of the clips.
    skipped : list of str
        Why clips were left out.
    drawn : str
        What the intervals draw again: "clips" or "groups".
    """

    metric: str
    mean: float
    spread: float
    low: float
    high: float
    parts: list[dict[str, Any]]
    pooled: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    classes: list[dict[str, Any]]
    confusion: list[list[int]]
    notes: list[str]
    skipped: list[str]
    drawn: str

    def line(self) -> str:
        """The result in a line."""
        clips = sum(part["clips"] for part in self.parts)
        spread = f" +- {self.spread:.3f} over {len(self.parts)} parts" if len(self.parts) > 1 else ""
        return f"test       {self.metric} {self.mean:.3f}{spread}, 95 % interval {self.low:.3f} - {self.high:.3f} on {clips} clips"


@dataclass(frozen=True)
class Heard:
    """Clips with what is true and what a classifier says of them.

    Parameters
    ----------
    rows : Index
        The clips' rows in their table.
    blocks : array of str, (n,)
        The group of each, see `Labels.blocks`.
    logits, target, known : ndarray (n, C)
    skipped : tuple of str
        Why other clips were left out.
    """

    rows: Index
    blocks: NDArray[Any]
    logits: Table
    target: Table
    known: Table
    skipped: tuple[str, ...] = ()

    def scores(self, activation: str, at: Index | None = None) -> dict[str, float]:
        """Every score, of some of the clips or of all."""
        index = np.arange(len(self.rows)) if at is None else at
        return scores(self.logits[index], self.target[index], self.known[index], activation)


def joined(parts: Sequence[Heard]) -> Heard:
    """The clips of all parts."""
    names = ("rows", "blocks", "logits", "target", "known")
    rows, blocks, logits, target, known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Heard(rows, blocks, logits, target, known, tuple(reason for part in parts for reason in part.skipped))


def summary(heard: Mapping[str, Heard], classes: tuple[str, ...], activation: str, notes: Sequence[str] = ()) -> FinetuneScores:
    """All scores of all parts, by the name of the part."""
    every, notes = joined(list(heard.values())), list(notes)
    parts: list[dict[str, Any]] = [{"part": name, "clips": len(each.rows), **each.scores(activation)} for name, each in heard.items()]
    pooled = every.scores(activation)
    there = [name for name, column in zip(classes, every.target.T, strict=True) if column.any()]
    if activation == "softmax" and len(there) == 1:
        notes.append(f"all clips are of one class, {there[0]}; scores that need two are left out")
        for found in (pooled, *parts):
            del found["balanced_accuracy"]
    metric = next(iter(pooled))
    values = [part[metric] for part in parts]
    spans = _intervals(every, [name for name in pooled if name != "loss"], activation)
    counts = confusion_matrix(every.target.argmax(axis=1), every.logits.argmax(axis=1), len(classes))
    several = activation == "sigmoid"
    return FinetuneScores(
        metric, float(np.mean(values)), float(np.std(values)), *spans[metric], parts, pooled, spans,
        _of_many(every, classes) if several else _of_one(counts, classes), [] if several else counts.tolist(), notes,
        list(every.skipped), "clips" if len(set(every.blocks.tolist())) == len(every.rows) else "groups",
    )  # fmt: skip


def write(folder: Path, told: FinetuneScores, heard: Heard, labels: Labels, activation: str) -> None:
    """The files ``scores.json``, ``scores.csv``, ``classes.csv``, ``predictions.csv``, and ``confusion.csv`` where clips have one class."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "scores.json", asdict(told))
    lines = ((name, told.pooled[name], *ends) for name, ends in told.intervals.items())
    header = ("score", "value", "low", "high")
    write_table(folder / "scores.csv", header, (dict(zip(header, map(_text, line), strict=True)) for line in lines))
    columns, names = tuple(told.classes[0]), labels.classes
    write_table(folder / "classes.csv", columns, [{name: _text(value) for name, value in row.items()} for row in told.classes])
    write_confusion(folder, names, told.confusion)
    tensor = torch.from_numpy(heard.logits)
    said = (tensor.softmax(dim=1) if activation == "softmax" else tensor.sigmoid()).numpy()
    parts = {name: times for name, times in (("start", labels.start), ("end", labels.end)) if any(each is not None for each in times)}
    rows = (
        {
            "path": str(labels.paths[row]),
            **{name: "" if times[row] is None else str(times[row]) for name, times in parts.items()},
            "label": "|".join(np.array(names)[labels.target[row] > 0]),
            **{f"score {name}": f"{value:.6g}" for name, value in zip(names, values, strict=True)},
        }
        for row, values in zip(heard.rows, said, strict=True)
    )
    write_table(folder / "predictions.csv", ("path", *parts, "label", *(f"score {name}" for name in names)), rows)


def _intervals(heard: Heard, names: list[str], activation: str) -> dict[str, tuple[float, float]]:
    """95 % intervals when clips or groups are drawn again; every score sees the same draws."""
    rounds = int(np.clip(WORK / heard.target.size, LEAST_ROUNDS, MOST_ROUNDS))
    drawn: dict[bytes, dict[str, float]] = {}

    def score(name: str, clips: Index) -> float:
        key = clips.tobytes()
        if key not in drawn:
            drawn[key] = heard.scores(activation, clips)
        return drawn[key][name]

    return {name: grouped_interval(partial(score, name), heard.blocks, seed=0, rounds=rounds) for name in names}


def _of_one(counts: Int[NDArray[Any], "C C"], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each class, where clips have one."""
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        clips, said, right = int(counts[k].sum()), int(counts[:, k].sum()), int(counts[k, k])
        confused = int(np.where(np.arange(len(names)) == k, -1, counts[k]).argmax())
        taken = names[confused] if counts[k, confused] and confused != k else ""
        low, high = wilson_interval(right, clips) if clips else (None, None)
        rows.append({
            "class": name, "clips": clips, "recall": right / clips if clips else None, "recall low": low, "recall high": high,
            "precision": right / said if said else None, "most often taken for": taken,
        })  # fmt: skip
    return rows


def _of_many(heard: Heard, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each class, where clips have several."""
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        judged = heard.known[:, k] > 0
        truth, score = heard.target[judged, k].astype(np.int64), heard.logits[judged, k]
        found = {"average precision": average_precision(truth, score), "ROC AUC": roc_auc(truth, score)}
        rows.append({
            "class": name, "clips": int(truth.sum()), "judged": int(judged.sum()),
            **{metric: value if np.isfinite(value) else None for metric, value in found.items()},
        })  # fmt: skip
    return rows


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
