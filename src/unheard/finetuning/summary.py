"""What a classifier's answers are worth: scores with intervals, a row for each class, who is taken for whom; and their
files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard import bootstrap
from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.leakage import few_groups
from unheard.files import FILES, file_checksums, write_confusion, write_json, write_table
from unheard.finetuning.model_selection import UNDEFINED_MEANS, scores
from unheard.metrics import average_precisions, confusion_matrix, roc_aucs, wilson_interval
from unheard.model.classification import probabilities

Table = Float[np.ndarray, "n C"]
Span = tuple[float | None, float | None]
UNDEFINED = "not known"


@dataclass(frozen=True)
class FinetuneScores:
    """Scores of a classifier on clips it was not trained on.

    Parameters
    ----------
    metric : str
        "balanced_accuracy" or "mAP"; "accuracy" where all clips are of one class.
    mean, spread : float
        Over the parts, one for each fold; the spread is their standard deviation, 0 for one part.
    low, high : float, optional
        95 % interval of the mean from a bootstrap over clips or whole groups of each part; None where a part has one
        only.
    parts : list of dict
        Every score of each part, with its name and number of clips.
    means : dict
        The mean of every score over the parts. Logits of models that were trained apart have scales of their own: none
        are pooled.
    intervals : dict
        95 % interval of every mean but that of the loss.
    classes : list of dict
        For each class its name, clips, and over all clips precision and recall with its 95 % interval (Wilson), or the
        mean over the parts of average precision and ROC AUC.
    confusion : list of list of int
        Clips of each true class (row) taken for each class (column); empty where clips have several.
    notes : list of str
        What a reader must know of the clips.
    skipped : list of str
        Why clips were left out.
    drawn : str
        What the bootstrap resamples: "clips" or "groups".
    """

    metric: str
    mean: float
    spread: float
    low: float | None
    high: float | None
    parts: list[dict[str, Any]]
    means: dict[str, float]
    intervals: dict[str, Span]
    classes: list[dict[str, Any]]
    confusion: list[list[int]]
    notes: list[str]
    skipped: list[str]
    resample: str

    def line(self) -> str:
        """The result in a line."""
        clips = sum(part["clips"] for part in self.parts)
        spread = f" +- {self.spread:.3f} over {len(self.parts)} parts" if len(self.parts) > 1 else ""
        return (
            f"test       {self.metric} {self.mean:.3f}{spread}, 95 % interval {interval(self.low, self.high)} on"
            f" {clips} clips"
        )


def interval(low: float | None, high: float | None) -> str:
    """An interval for people."""
    return UNDEFINED if low is None or high is None else f"{low:.3f} - {high:.3f}"


@dataclass(frozen=True)
class Predictions:
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

    @property
    def single_group(self) -> bool:
        """Whether all clips are of one group, or there is one clip."""
        return len(set(self.blocks.tolist())) == 1

    @property
    def grouped(self) -> bool:
        """Whether some clips are of the same group."""
        return len(set(self.blocks.tolist())) < len(self.rows)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The clips of all parts."""
    names = ("rows", "blocks", "logits", "target", "known")
    rows, blocks, logits, target, known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Predictions(rows, blocks, logits, target, known, tuple(reason for part in parts for reason in part.skipped))


def summary(
    heard: Mapping[str, Predictions], classes: tuple[str, ...], activation: str, notes: Sequence[str] = ()
) -> FinetuneScores:
    """All scores of all parts, by the name of the part."""
    each, every, notes = list(heard.values()), joined(list(heard.values())), list(notes)
    parts: list[dict[str, Any]] = [
        {"part": name, "clips": len(one.rows), **one.scores(activation)} for name, one in heard.items()
    ]
    there = [name for name, column in zip(classes, every.target.T, strict=True) if column.any()]
    if activation == "softmax" and len(there) == 1:
        notes.append(f"all clips are of one class, {there[0]}; scores that need two are left out")
        for found in parts:
            del found["balanced_accuracy"]
    means = {name: float(np.mean([part[name] for part in parts])) for name in parts[0] if name not in ("part", "clips")}
    metric = next(iter(means))
    spans = _intervals(each, {name: value for name, value in means.items() if name != "loss"}, activation)
    counts = confusion_matrix(every.target.argmax(axis=1), every.logits.argmax(axis=1), len(classes))
    several = activation == "sigmoid"
    return FinetuneScores(
        metric, means[metric], float(np.std([part[metric] for part in parts])), *spans[metric], parts, means, spans,
        _multilabel_rows(each, classes) if several else _multiclass_rows(counts, classes), [] if several else counts.tolist(),
        [*notes, *_too_few(each)], list(every.skipped), "groups" if any(one.grouped for one in each) else "clips",
    )  # fmt: skip


def write(folder: Path, told: FinetuneScores, heard: Predictions, labels: Labels, activation: str) -> None:
    """The files ``scores.json``, ``scores.csv``, ``classes.csv``, ``predictions.csv``, and ``confusion.csv`` where
    clips have one class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        (name, _text(told.means[name]), *(_text(end) or UNDEFINED for end in ends))
        for name, ends in told.intervals.items()
    )
    header = ("score", "value", "low", "high")
    write_table(folder / "scores.csv", header, (dict(zip(header, line, strict=True)) for line in lines))
    columns, names = tuple(told.classes[0]), labels.classes
    write_table(
        folder / "classes.csv", columns, [{name: _text(value) for name, value in row.items()} for row in told.classes]
    )
    write_confusion(folder, names, told.confusion)
    tensor = torch.from_numpy(heard.logits)
    said = probabilities(tensor, activation == "sigmoid").numpy()
    parts = {
        name: times
        for name, times in (("start", labels.start), ("end", labels.end))
        if any(each is not None for each in times)
    }
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
    tables = ("scores.csv", "classes.csv", "predictions.csv", *(["confusion.csv"] if told.confusion else []))
    write_json(folder / "scores.json", {**asdict(told), FILES: file_checksums(folder, tables)})


def _intervals(parts: Sequence[Predictions], means: Mapping[str, float], activation: str) -> dict[str, Span]:
    """95 % bootstrap intervals of means over parts; the clips or groups of each part are resampled, the same ones for
    every score.
    """
    if any(part.single_group for part in parts):
        return dict.fromkeys(means, (None, None))
    found = [bootstrap.replicates(_statistics(part, list(means)), part.blocks, seed) for seed, part in enumerate(parts)]
    replicates = dict(zip(means, np.mean(found, axis=0), strict=True))
    return {name: bootstrap.bc_interval(replicates[name], value) for name, value in means.items()}


def _statistics(part: Predictions, names: Sequence[str]) -> Callable[[bootstrap.Counts], Float[np.ndarray, "S R"]]:
    statistics = [_statistic(part, name) for name in names]
    return lambda counts: np.stack([statistic(counts) for statistic in statistics])


def _statistic(part: Predictions, name: str) -> bootstrap.Statistic:
    """A score of `finetune_choice.scores` over clips that occur several times."""
    truth, predicted = part.target.argmax(axis=1), part.logits.argmax(axis=1)
    if name == "accuracy":
        return bootstrap.mean_statistic(truth == predicted)
    if name == "balanced_accuracy":
        return bootstrap.balanced_accuracy_statistic(truth, predicted)
    of_classes = bootstrap.average_precisions_statistic if name == "mAP" else bootstrap.roc_aucs_statistic
    classes = of_classes(part.target.astype(np.int64), part.logits, part.known > 0)
    return lambda counts: bootstrap.class_mean(classes(counts), UNDEFINED_MEANS[name])


def _too_few(parts: Sequence[Predictions]) -> list[str]:
    """Remarks where intervals say little or cannot be had."""
    single_group = [part for part in parts if part.single_group]
    if single_group:
        unit = "clip" if all(len(part.rows) == 1 for part in single_group) else "group"
        where = f"in {len(single_group)} of {len(parts)} parts " if len(parts) > 1 else ""
        return [f"{where}one {unit} only was tested, so how far the scores would move with others is not known"]
    return (
        few_groups(sum(len(set(part.blocks.tolist())) for part in parts)) if any(part.grouped for part in parts) else []
    )


def _multiclass_rows(counts: Int[np.ndarray, "C C"], names: tuple[str, ...]) -> list[dict[str, Any]]:
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


def _multilabel_rows(parts: Sequence[Predictions], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each class, where clips have several."""
    tables = [(part.target.astype(np.int64), part.logits, part.known > 0) for part in parts]
    positive = sum((target * known).sum(axis=0) for target, _, known in tables)
    annotated = sum(known.sum(axis=0) for *_, known in tables)
    precisions, areas = (np.stack([score(*table) for table in tables]) for score in (average_precisions, roc_aucs))
    return [
        {
            "class": name, "clips": int(positive[k]), "judged": int(annotated[k]),
            "average precision": _mean(precisions[:, k]), "ROC AUC": _mean(areas[:, k]),
        }
        for k, name in enumerate(names)
    ]  # fmt: skip


def _mean(values: Float[np.ndarray, " P"]) -> float | None:
    """Return the mean of the finite values; None where there are none."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
