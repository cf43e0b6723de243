"""The clips that a run predicted: labels and scores by what identifies a clip in two runs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unheard.finetuning.session import LabelledSplits

Key = tuple[str, ...]
"""What identifies a clip in two runs: path, start, end, and the number of earlier rows with the same ones."""


@dataclass(frozen=True)
class Predicted:
    """The predictions of a run.

    Parameters
    ----------
    classes : list of str
    clips : dict of tuple to (str, Float[ndarray, "C"])
        True label, several joined by ``|``, and scores of each clip.
    """

    classes: list[str]
    clips: dict[Key, tuple[str, Float[np.ndarray, " C"]]]


@dataclass(frozen=True)
class Tested:
    """The clips of the table of a fine-tuned run: their groups, if there are any, and their parts (folds)."""

    groups: dict[Key, str]
    parts: dict[Key, str]


def read_predictions(file: Path) -> Predicted:
    """Return the predictions of a fine-tuned run."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    columns = [name for name in (rows[0] if rows else ()) if name.startswith("score ")]
    values = [(row["label"], np.array([float(row[name]) for name in columns])) for row in rows]
    places = ((row["path"], row.get("start", ""), row.get("end", "")) for row in rows)
    clips = dict(zip(keys_of(places), values, strict=True))
    return Predicted([name.removeprefix("score ") for name in columns], clips)


def keys_of(places: Iterable[tuple[str, str, str]]) -> list[Key]:
    """Return the keys of rows with these paths, starts and ends."""
    seen: Counter[Key] = Counter()
    keys = []
    for path, *times in places:
        place = (str(Path(path).resolve()), *times)
        keys.append((*place, str(seen[place])))
        seen[place] += 1
    return keys


def tested_clips(table: LabelledSplits) -> Tested:
    """Return the groups and the parts of the clips of a table."""
    labels = table.labels
    times = [["" if each is None else str(each) for each in column] for column in (labels.start, labels.end)]
    keys = keys_of(zip(map(str, labels.paths), *times, strict=True))
    groups = dict(zip(keys, map(str, labels.group_ids()), strict=True)) if any(labels.group) else {}
    return Tested(groups, {keys[row]: part.name for part in table.parts for row in part.test})
