"""Summary of the predictions of a classifier: scores with intervals, per-class results and confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard import bootstrap
from unheard.data.class_sets import Index
from unheard.data.leakage import few_clips, few_groups, not_in_map
from unheard.errors import DataError
from unheard.finetuning.model_selection import scores
from unheard.metrics import average_precisions, confusion_matrix, grouped_wilson_interval, only_positive, roc_aucs

Table = Float[np.ndarray, "n C"]


@dataclass(frozen=True)
class FinetuneScores:
    """Scores of a classifier on clips it was not trained on.

    Parameters
    ----------
    metric : str
        "balanced_accuracy" or "mAP"; "accuracy" if all clips have the same class.
    mean, spread : float
        Mean and standard deviation over the folds; the spread of one fold is 0.
    low, high : float, optional
        95 % interval of the mean, from a bootstrap over clips or groups of each fold; None if a fold has only one.
    parts : list of dict
        Every score of each fold, with its name and number of clips.
    means : dict
        Mean of every score over the folds. Logits of different models are not pooled, because their scales differ.
    intervals : dict
        95 % interval of every mean except the loss.
    classes : list of dict
        Name, number of clips and scores of each class. Single label: precision, and recall with its 95 % interval
        (`metrics.grouped_wilson_interval`), over all clips. Multilabel: mean over the folds of average precision and
        ROC AUC.
    confusion : list of list of int
        Clips of each true class (row) predicted as each class (column); empty for multilabel tables.
    notes : list of str
        Caveats.
    skipped : list of str
        Reasons for skipped clips.
    resample : str
        Unit that the bootstrap resamples: "clips" or "groups".
    """

    metric: str
    mean: float
    spread: float
    low: float | None
    high: float | None
    parts: list[dict[str, Any]]
    means: dict[str, float]
    intervals: dict[str, bootstrap.Interval]
    classes: list[dict[str, Any]]
    confusion: list[list[int]]
    notes: list[str]
    skipped: list[str]
    resample: str

    def line(self) -> str:
        """Return the result as one line."""
        clips = sum(part["clips"] for part in self.parts)
        spread = f" +- {self.spread:.3f} over {len(self.parts)} parts" if len(self.parts) > 1 else ""
        interval = bootstrap.interval_text(self.low, self.high)
        return f"test       {self.metric} {self.mean:.3f}{spread}, 95 % interval {interval} on {clips} clips"


@dataclass(frozen=True)
class Predictions:
    """Targets and predictions of clips.

    Parameters
    ----------
    rows : Index
        Rows of the clips in their table.
    groups : array of str, (n,)
        Group of each clip, see `Labels.group_ids`.
    logits, target, known : ndarray (n, C)
    skipped : tuple of str
        Reasons for skipped clips.
    """

    rows: Index
    groups: NDArray[Any]
    logits: Table
    target: Table
    known: Table
    skipped: tuple[str, ...] = ()

    def scores(self, activation: str, at: Index | None = None) -> dict[str, float]:
        """Return every score, of the clips ``at`` or of all; NaN if no class has it."""
        index = np.arange(len(self.rows)) if at is None else at
        return scores(self.logits[index], self.target[index], self.known[index], activation, {})

    @property
    def single_group(self) -> bool:
        """Whether all clips belong to one group."""
        return len(set(self.groups.tolist())) == 1

    @property
    def grouped(self) -> bool:
        """Whether several clips belong to the same group."""
        return len(set(self.groups.tolist())) < len(self.rows)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate the predictions of all folds."""
    names = ("rows", "groups", "logits", "target", "known")
    rows, groups, logits, target, known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Predictions(rows, groups, logits, target, known, tuple(reason for part in parts for reason in part.skipped))


def summary(
    predictions: Mapping[str, Predictions], classes: tuple[str, ...], activation: str, notes: Sequence[str] = ()
) -> FinetuneScores:
    """Return the scores of all folds.

    Parameters
    ----------
    predictions : mapping of str to Predictions
        Predictions by name of the fold.
    classes : tuple of str
    activation : {"softmax", "sigmoid"}
    notes : sequence of str
        Caveats to include.
    """
    folds, every, notes = list(predictions.values()), joined(list(predictions.values())), list(notes)
    parts: list[dict[str, Any]] = [
        {"part": name, "clips": len(each.rows), **each.scores(activation)} for name, each in predictions.items()
    ]
    finite = [name for name, column in zip(classes, every.target.T, strict=True) if column.any()]
    if activation == "softmax" and len(finite) == 1:
        notes.append(f"all clips have the same class, {finite[0]}; scores that need two classes are omitted")
        for fold_scores in parts:
            del fold_scores["balanced_accuracy"]
    undefined = np.any([only_positive(each.target.astype(np.int64), each.known > 0) for each in folds], axis=0)
    notes += _undefined(parts) + not_in_map([name for name, lacks in zip(classes, undefined, strict=True) if lacks])
    means = {name: float(np.nanmean(values)) for name, values in _columns(parts).items() if np.isfinite(values).any()}
    if (metric := next(iter(means))) == "loss":
        raise DataError(
            "no test clip has a label, or no class is annotated as absent in a test clip, so there is no score; give"
            " test clips with labels"
        )
    values = _columns(parts)
    spans = _intervals(folds, {name: (mean, values[name]) for name, mean in means.items() if name != "loss"})
    several = activation == "sigmoid"
    return FinetuneScores(
        metric,
        means[metric],
        float(np.nanstd(_columns(parts)[metric])),
        *spans[metric],
        [{name: None if value != value else value for name, value in part.items()} for part in parts],
        means,
        spans,
        _multilabel_rows(folds, classes) if several else _multiclass_rows(every, classes),
        [] if several else _confusion(every).tolist(),
        [*notes, *_too_few(folds)],
        list(every.skipped),
        "groups" if any(each.grouped for each in folds) else "clips",
    )


def _intervals(
    parts: Sequence[Predictions], values: Mapping[str, tuple[float, Float[np.ndarray, " P"]]]
) -> dict[str, bootstrap.Interval]:
    """Return 95 % bootstrap intervals of means over the folds that have a score, from the means and the folds' values.

    The clips or groups of each fold are resampled, with the same resamples for every score.
    """
    names = list(values)
    fold_scores = np.stack(
        [bootstrap.replicates(_statistics(part, names), part.groups, seed) for seed, part in enumerate(parts)]
    )
    return {
        name: bootstrap.known(bootstrap.bc_interval(fold_scores[np.isfinite(of_folds), number].mean(axis=0), mean))
        for number, (name, (mean, of_folds)) in enumerate(values.items())
    }


def _columns(parts: Sequence[dict[str, Any]]) -> dict[str, Float[np.ndarray, " P"]]:
    """Return each score of all parts."""
    return {name: np.array([part[name] for part in parts]) for name in parts[0] if name not in ("part", "clips")}


def _undefined(parts: Sequence[dict[str, Any]]) -> list[str]:
    """Return a note for each score that some parts do not have."""
    notes = []
    for name, values in _columns(parts).items():
        if name == "loss":
            continue
        lacking = [str(part["part"]) for part, value in zip(parts, values, strict=True) if np.isnan(value)]
        if len(lacking) == len(parts):
            notes.append(f"{name} is left out: no class has test clips with and without its label")
        elif lacking:
            count = len(parts) - len(lacking)
            notes.append(f"{name} is the mean over {count} of {len(parts)} parts; {', '.join(lacking)}: not defined")
    return notes


def _statistics(part: Predictions, names: Sequence[str]) -> Callable[[bootstrap.Counts], Float[np.ndarray, "S R"]]:
    statistics = [_statistic(part, name) for name in names]
    return lambda counts: np.stack([statistic(counts) for statistic in statistics])


def _statistic(part: Predictions, name: str) -> bootstrap.Statistic:
    """Return a score of `model_selection.scores` as a bootstrap statistic."""
    truth, predicted = part.target.argmax(axis=1), part.logits.argmax(axis=1)
    if name == "accuracy":
        return bootstrap.mean_statistic(truth == predicted)
    if name == "balanced_accuracy":
        return bootstrap.balanced_accuracy_statistic(truth, predicted)
    of_classes = bootstrap.average_precisions_statistic if name == "mAP" else bootstrap.roc_aucs_statistic
    classes = of_classes(part.target.astype(np.int64), part.logits, part.known > 0)
    return lambda counts: bootstrap.class_mean(classes(counts))


def _too_few(parts: Sequence[Predictions]) -> list[str]:
    """Return warnings if intervals are unreliable or cannot be computed."""
    single_group = [part for part in parts if part.single_group]
    if single_group:
        unit = "clip" if all(len(part.rows) == 1 for part in single_group) else "group"
        where = f"in {len(single_group)} of {len(parts)} parts " if len(parts) > 1 else ""
        return [f"{where}only one {unit} was tested, so no confidence interval can be computed"]
    of_parts = [set(part.groups.tolist()) for part in parts]
    units, grouped = len(set().union(*of_parts)), any(part.grouped for part in parts)
    notes = few_groups(units) if grouped else few_clips(units)
    if sum(map(len, of_parts)) > units:
        notes.append("some groups are in several folds, which are resampled one by one: the interval is too narrow")
    return notes


def _confusion(every: Predictions) -> Int[np.ndarray, "C C"]:
    return confusion_matrix(every.target.argmax(axis=1), every.logits.argmax(axis=1), every.target.shape[1])


def _multiclass_rows(every: Predictions, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each class of a single-label table."""
    rows: list[dict[str, Any]] = []
    counts, truth, predicted = _confusion(every), every.target.argmax(axis=1), every.logits.argmax(axis=1)
    for k, name in enumerate(names):
        at = truth == k
        clips, as_class, right = int(at.sum()), int(counts[:, k].sum()), int(counts[k, k])
        confused = int(np.where(np.arange(len(names)) == k, -1, counts[k]).argmax())
        most_confused = names[confused] if counts[k, confused] and confused != k else ""
        interval = grouped_wilson_interval(predicted[at] == k, every.groups[at]) if clips else (math.nan, math.nan)
        low, high = bootstrap.known(interval)
        row = {"class": name, "clips": clips, "recall": right / clips if clips else None}
        row |= {"recall low": low, "recall high": high, "precision": right / as_class if as_class else None}
        rows.append(row | {"most often predicted as": most_confused})
    return rows


def _multilabel_rows(parts: Sequence[Predictions], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each class of a multilabel table."""
    tables = [(part.target.astype(np.int64), part.logits, part.known > 0) for part in parts]
    positive = sum((target * known).sum(axis=0) for target, _, known in tables)
    annotated = sum(known.sum(axis=0) for *_, known in tables)
    precisions, areas = (np.stack([score(*table) for table in tables]) for score in (average_precisions, roc_aucs))
    return [
        {
            "class": name, "clips": int(positive[k]), "annotated": int(annotated[k]),
            "average precision": _mean(precisions[:, k]), "ROC AUC": _mean(areas[:, k]),
        }
        for k, name in enumerate(names)
    ]  # fmt: skip


def _mean(values: Float[np.ndarray, " P"]) -> float | None:
    """Return the mean of the finite values; None if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
