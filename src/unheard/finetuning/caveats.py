"""Caveats of the scores of a fine-tuned run: test clips that were also used in training, by content or by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.leakage import on_both_sides, shared_content
from unheard.errors import DataError
from unheard.finetuning.session import FinetuneSession, LabelledSplits, training_table
from unheard.finetuning.summary import FinetuneScores, Predictions

BYTES = "are from files with the same bytes as training files (copies, or parts of one recording)"
GROUP = "belong to a group that is also used in training; put every group into one split or fold"


def leakage_warnings(
    table: LabelledSplits, predictions: Mapping[str, Predictions], report: FinetuneScores, activation: str
) -> list[str]:
    """Return warnings about test clips whose content or group was also used for training or model selection.

    Parameters
    ----------
    table : LabelledSplits
    predictions : mapping of str to Predictions
        Predictions on the test clips by name of the fold.
    report : FinetuneScores
        Scores on all test clips; a warning compares them with the scores without the affected clips.
    activation : {"softmax", "sigmoid"}
    """
    labels, used = table.labels, {part.name: np.concatenate([part.train, part.valid]) for part in table.parts}
    sides = [(used[name], each.rows) for name, each in predictions.items()]
    tested = sum(len(each.rows) for each in predictions.values())
    checks: list[tuple[Sequence[str | None], str]] = [([name or None for name in labels.group], GROUP)]
    warnings = []
    try:
        checks.insert(0, (shared_content(labels.paths), BYTES))
    except OSError as error:
        warnings.append(f"could not check whether test clips are copies of training clips: {error}")
    for keys, what in checks:
        leaked = np.flatnonzero(on_both_sides(sides, keys))
        if len(leaked):
            warnings.append(
                f"{len(leaked)} of {tested} test clips{_without(predictions, leaked, report, activation)} {what}"
            )
    return warnings


def chosen_by_one_class(table: LabelledSplits, activation: str) -> list[str]:
    """Return a warning if the best epoch of a model was selected on clips of a single class."""
    if activation != "softmax":
        return []
    several = [part for part in table.parts if len(part.valid)]
    single_class = [part for part in several if len(np.unique(table.labels.index[part.valid])) == 1]
    where = f"in {len(single_class)} of {len(several)} parts " if len(several) > 1 else ""
    text = (
        f"{where}all validation clips have the same class, and the weights were selected on them; put clips of every"
        " class into the split valid"
    )
    return [text] if single_class else []


def trained_on(run: Path, session: FinetuneSession | None, labels: Labels, rows: Index) -> list[str]:
    """Return a warning about clips of another table whose content was used to train the run."""
    if session is None:
        return []
    try:
        own = training_table(run, session)
        trained = [own.labels.paths[row] for part in own.parts for row in (*part.train, *part.valid)]
        content = shared_content([*trained, *(labels.paths[row] for row in rows)])
        training_content = {*content[: len(trained)]} - {None}
        count = sum(each in training_content for each in content[len(trained) :])
    except (DataError, OSError) as error:
        return [f"could not check whether these clips were used to train the run: {error}"]
    if not count:
        return []
    return [
        f"{count} of {len(rows)} clips are from files, or copies of files, that were used for training or model"
        " selection; the scores are too high"
    ]


def _without(predictions: Mapping[str, Predictions], leaked: Index, report: FinetuneScores, activation: str) -> str:
    """Return the metric without the affected clips, in brackets; empty if a fold has no other clips."""
    remaining = [(each, np.flatnonzero(~np.isin(each.rows, leaked))) for each in predictions.values()]
    if not all(len(at) for _, at in remaining):
        return ""
    values = [each.scores(activation, at)[report.metric] for each, at in remaining]
    if np.isnan(values).all():
        return ""
    value = float(np.nanmean(values))
    return f" (without them {report.metric} is {value:.3f}, not {report.mean:.3f})"
