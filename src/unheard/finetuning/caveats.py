"""What makes the scores of a fine-tuned run doubtful: tested clips that trained it, by their bytes or by their group."""

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

BYTES = "come from files whose bytes also train (copies, or parts of one recording)"
GROUP = "belong to a group that also trains; give every group one split or fold"


def leakage_warnings(
    table: LabelledSplits, heard: Mapping[str, Predictions], told: FinetuneScores, activation: str
) -> list[str]:
    """Sentences on tested clips of a table whose bytes or group also trained, or chose the weights of, the models that
    heard them.

    Parameters
    ----------
    table : Table
    heard : mapping of str to Heard
        The tested clips by the name of their part.
    told : FinetuneScores
        Of all of them; the metric without these clips is told beside it.
    """
    labels, taught = table.labels, {part.name: np.concatenate([part.train, part.valid]) for part in table.parts}
    sides = [(taught[name], one.rows) for name, one in heard.items()]
    tested = sum(len(one.rows) for one in heard.values())
    signs: list[tuple[Sequence[str | None], str]] = [([name or None for name in labels.group], GROUP)]
    found = []
    try:
        signs.insert(0, (shared_content(labels.paths), BYTES))
    except OSError as error:
        found.append(f"whether tested clips are copies of others cannot be told: {error}")
    for keys, what in signs:
        leaked = np.flatnonzero(on_both_sides(sides, keys))
        if len(leaked):
            found.append(f"{len(leaked)} of {tested} tested clips{_without(heard, leaked, told, activation)} {what}")
    return found


def chosen_by_one_class(table: LabelledSplits, activation: str) -> list[str]:
    """A remark on models whose epoch was chosen by clips of a single class."""
    if activation != "softmax":
        return []
    several = [part for part in table.parts if len(part.valid)]
    alone = [part for part in several if len(np.unique(table.labels.index[part.valid])) == 1]
    where = f"in {len(alone)} of {len(several)} parts " if len(several) > 1 else ""
    told = (
        f"{where}all validation clips are of one class, and they chose the weights; give the split valid clips of every"
        " class"
    )
    return [told] if alone else []


def trained_on(run: Path, session: FinetuneSession | None, labels: Labels, rows: Index) -> list[str]:
    """Remarks on clips of another table whose bytes trained the run; models without a session have none."""
    if session is None:
        return []
    try:
        own = training_table(run, session)
        trained = [own.labels.paths[row] for part in own.parts for row in (*part.train, *part.valid)]
        content = shared_content([*trained, *(labels.paths[row] for row in rows)])
        seen = {*content[: len(trained)]} - {None}
        again = sum(each in seen for each in content[len(trained) :])
    except (DataError, OSError) as error:
        return [f"whether these clips trained the run cannot be told: {error}"]
    if not again:
        return []
    return [
        f"{again} of {len(rows)} clips are of files, or copies of files, that trained the run or chose its weights; the"
        " scores flatter it"
    ]


def _without(heard: Mapping[str, Predictions], leaked: Index, told: FinetuneScores, activation: str) -> str:
    """The metric without some clips, in brackets; empty where a part has no others."""
    kept = [(one, np.flatnonzero(~np.isin(one.rows, leaked))) for one in heard.values()]
    if not all(len(at) for _, at in kept):
        return ""
    value = float(np.mean([one.scores(activation, at)[told.metric] for one, at in kept]))
    return f" (on the others {told.metric} is {value:.3f}, not {told.mean:.3f})"
