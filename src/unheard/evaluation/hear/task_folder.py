"""HEAR task folders in the layout of hear-preprocess.

    NAME/task_metadata.json  NAME/labelvocabulary.csv  NAME/SPLIT.json  NAME/RATE/SPLIT/FILE.wav

A scene task has labels of files, an event task has labels of intervals. Unused keys of the metadata are ignored.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from unheard.errors import DataError
from unheard.evaluation.hear.events import Events, Postprocessing
from unheard.evaluation.hear.scores import SCORES

METADATA = "task_metadata.json"
VOCABULARY = "labelvocabulary.csv"
# default grid of heareval
POSTPROCESSING: dict[str, list[float]] = {"median_filter_ms": [250], "min_duration": [125, 250]}

Answers = Int[np.ndarray, " _"] | Events
"""Labels of one file: label indices, or events with file index 0."""


@dataclass(frozen=True)
class Task:
    """Metadata and labels of a task.

    Parameters
    ----------
    folder : Path
    name, task_name : str
        Name of the folder, such as ``esc50-v2.0.0-full``, and name without version and mode.
    event, multilabel : bool
        Whether intervals are labelled, and whether a file may have several labels.
    splits : tuple of str
        In the order of the metadata.
    folds : bool
        Whether the splits are cross-validation folds, or train, valid and test.
    seconds : float, optional
        Length of every file; None if lengths differ.
    scores : tuple of str
        Names in `SCORES`; the first is the primary score.
    stop_by_score : bool
        Whether early stopping uses the first score, or the loss.
    postprocessing : tuple of Postprocessing
        Candidate settings of event tasks.
    grid : mapping of str to list
        Hyper-parameters that the task fixes.
    labels : tuple of str
    clips : dict of str to dict of str to Answers
        Split -> file -> labels, in the order of the files.
    """

    folder: Path
    name: str
    task_name: str
    event: bool
    multilabel: bool
    splits: tuple[str, ...]
    folds: bool
    seconds: float | None
    scores: tuple[str, ...]
    stop_by_score: bool
    postprocessing: tuple[Postprocessing, ...]
    grid: Mapping[str, list[Any]]
    labels: tuple[str, ...]
    clips: dict[str, dict[str, Answers]]

    def rates(self) -> list[int]:
        """Return the sample rates of the available audio in Hz."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())


def find_tasks(folder: str | Path) -> list[Path]:
    """Return the task folders in ``folder``, up to three levels below it, sorted by name.

    Raises
    ------
    DataError
        When there is no task, or two tasks have the same name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a folder with HEAR task folders")
    levels = ("", "*/", "*/*/", "*/*/*/")  # archives unpack to hear-RELEASE/tasks/NAME
    found = sorted(
        {path.parent for level in levels for path in root.glob(level + METADATA)}, key=lambda path: (path.name, path)
    )
    if not found:
        raise DataError(f"{root} holds no task: a task is a folder with {METADATA}, {VOCABULARY}, labels and audio")
    named: dict[str, Path] = {}
    for path in found:
        if (other := named.setdefault(path.resolve().name, path)) != path:
            raise DataError(
                f"{other} and {path} have the same name; rename one, or give a folder with only one of them"
            )
    return found


def read_task(folder: str | Path) -> Task:
    """Read a task's metadata, vocabulary and labels.

    Raises
    ------
    DataError
        When a file is missing, or metadata, vocabulary, labels, splits or times are invalid.
    """
    root = Path(folder)
    found = _json(root / METADATA)
    try:
        event = _choice(found, "embedding_type", ("scene", "event"), root) == "event"
        multilabel = _choice(found, "prediction_type", ("multiclass", "multilabel"), root) == "multilabel"
        mode = _choice(found, "split_mode", ("trainvaltest", "presplit_kfold", "new_split_kfold"), root)
        splits, scores = _names(root, found["splits"], "split"), _names(root, found["evaluation"], "score")
        extra = found.get("evaluation_params") or {}
        settings = extra.get("event_postprocessing_grid") or POSTPROCESSING
        names = ("median_filter_ms", "min_duration")
        grid = list(itertools.product(*(_milliseconds(root, settings[name], name) for name in names)))
        hypers = _grid(root, extra.get("task_specific_param_grid") or {})
        seconds, task_name = found["sample_duration"], found["task_name"]
    except KeyError as error:
        raise DataError(f"{root / METADATA} lacks {error}; write the task again with hear-preprocess") from None
    except (TypeError, AttributeError) as error:
        raise DataError(
            f"{root / METADATA} has a value of the wrong type ({error}); write the task again with hear-preprocess"
        ) from error
    if seconds is not None and (not isinstance(seconds, int | float) or not 0 < seconds < math.inf):
        raise DataError(
            f"{root / METADATA}: sample_duration is {seconds!r}; it must be seconds above 0, or null where lengths"
            " differ"
        )
    _known(root, scores, event, splits, mode)
    labels, name = _vocabulary(root / VOCABULARY), root.resolve().name
    clips = {split: _answers(root / f"{split}.json", labels, event, multilabel) for split in splits}
    _apart(root, clips)
    if not event and not multilabel:
        _several_classes(name, clips)
    if empty := [split for split, files in clips.items() if not any(map(len, files.values()))]:
        raise DataError(
            f"{name}: no file of {empty[0]} has {'an event' if event else 'a label'}; its score would be undefined"
        )
    by_score = found.get("use_scoring_for_early_stopping", True)
    if not isinstance(by_score, bool):
        raise DataError(f"{root / METADATA}: use_scoring_for_early_stopping is {by_score!r}; it must be true or false")
    if event and not by_score and len(grid) > 1:
        raise DataError(
            f"{root / METADATA} stops by the loss, which cannot select one of {len(grid)} post-processing"
            " settings; give one"
        )
    return Task(
        root, name, task_name, event, multilabel, splits, mode != "trainvaltest", seconds, scores,
        by_score, tuple(Postprocessing(*pair) for pair in grid) if event else (),
        hypers, labels, clips,
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}); write the task again with hear-preprocess"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold a JSON object; it holds a {type(found).__name__}")
    return found


def _choice(found: dict[str, Any], key: str, choices: tuple[str, ...], root: Path) -> str:
    if found[key] not in choices:
        raise DataError(f"{root / METADATA}: {key} is {found[key]!r}; it must be one of {', '.join(choices)}")
    return str(found[key])


def _known(root: Path, scores: tuple[str, ...], event: bool, splits: tuple[str, ...], mode: str) -> None:
    """Check that scores and splits are valid."""
    if repeated := [name for name, times in Counter(splits).items() if times > 1]:
        raise DataError(f"{root / METADATA} has the split {repeated[0]} twice; splits must be disjoint")
    fitting = [name for name, score in SCORES.items() if score.event == event]
    if not scores or (unknown := [name for name in scores if name not in fitting]):
        raise DataError(
            f"{root / METADATA} asks for {unknown[0] if scores else 'no score'}; accepted: {', '.join(fitting)}"
        )
    if mode == "trainvaltest" and not {"train", "valid", "test"} <= set(splits):
        raise DataError(f"{root / METADATA} has the splits {', '.join(splits)}; it needs train, valid and test")
    if mode != "trainvaltest" and len(splits) < 3:
        raise DataError(f"{root / METADATA} has {len(splits)} folds; training, validation and test need three")


def _names(root: Path, values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise DataError(f"{root / METADATA} has the {what}s {values!r}; they must be a list of names")
    if strange := [name for name in values if not isinstance(name, str)]:
        raise DataError(f"{root / METADATA} has the {what} {strange[0]!r}; it must be a name")
    return tuple(values)


def _apart(root: Path, clips: Mapping[str, Mapping[str, Answers]]) -> None:
    """Check that no file is in two splits."""
    owner: dict[str, str] = {}
    for split, files in clips.items():
        for name in files:
            if (other := owner.setdefault(name, split)) != split:
                raise DataError(f"{root}: {name} is in the splits {other} and {split}; splits must be disjoint")


def _several_classes(name: str, clips: Mapping[str, Mapping[str, Answers]]) -> None:
    """Check that every split has several classes."""
    for split, files in clips.items():
        if len({int(np.asarray(answer)[0]) for answer in files.values()}) < 2:
            raise DataError(f"{name}: all clips of {split} have the same class; its score would be undefined")


def _milliseconds(root: Path, values: Any, name: str) -> list[float]:
    if (
        isinstance(values, list)
        and values
        and all(isinstance(each, int | float) and 0 <= each < math.inf for each in values)
    ):
        return values
    raise DataError(
        f"{root / METADATA}: event_postprocessing_grid has {name} {values!r}; it must be a list of milliseconds, at"
        " least 0"
    )


def _grid(root: Path, found: Any) -> dict[str, list[Any]]:
    if not isinstance(found, dict):
        raise DataError(
            f"{root / METADATA}: task_specific_param_grid is {found!r}; it must give each hyper-parameter a list of"
            " values"
        )
    if wrong := [name for name, values in found.items() if not isinstance(values, list) or not values]:
        raise DataError(
            f"{root / METADATA}: task_specific_param_grid fixes {wrong[0]} to {found[wrong[0]]!r}; it must be a list of"
            " values"
        )
    return found


def _vocabulary(path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = sorted((int(row["idx"]), row["label"]) for row in csv.DictReader(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no vocabulary ({error}); it needs the columns idx,label") from error
    if not rows or [index for index, _ in rows] != list(range(len(rows))):
        raise DataError(f"{path}: idx must count the labels from 0; it holds {len(rows)} rows")
    if repeated := [label for label, times in Counter(label for _, label in rows).items() if times > 1]:
        raise DataError(f"{path} names {repeated[0]!r} twice; every label needs a name of its own")
    return tuple(label for _, label in rows)


def _in_order(events: Events) -> bool:
    """Return whether every event starts at 0 or later and does not end before its start."""
    return bool(((events.start >= 0) & (events.end >= events.start) & np.isfinite(events.end)).all())


def _answers(path: Path, labels: tuple[str, ...], event: bool, multilabel: bool) -> dict[str, Answers]:
    """Read the labels of each file of a split."""
    position = {label: index for index, label in enumerate(labels)}
    answers: dict[str, Answers] = {}
    for name, found in _json(path).items():
        try:
            if event:
                answers[name] = Events(
                    np.zeros(len(found), np.int64),
                    np.array([position[str(each["label"])] for each in found], np.int64),
                    np.array([each["start"] for each in found], float),
                    np.array([each["end"] for each in found], float),
                )
            else:
                answers[name] = np.array([position[str(label)] for label in found], np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: the labels of {name} do not fit the vocabulary or the format ({error})"
            ) from error
        if name in (".", "..") or "/" in name or "\\" in name:
            raise DataError(f"{path} names {name}; files of a split lie in one folder and are named without it")
        if isinstance(answer := answers[name], Events) and not _in_order(answer):
            raise DataError(
                f"{path}: an event of {name} has impossible times; it needs 0 <= start <= end, in milliseconds"
            )
        if not event and not multilabel and len(found) != 1:
            raise DataError(f"{path}: {name} has {len(found)} labels; a multiclass task needs exactly one")
    if not answers:
        raise DataError(f"{path} names no files")
    return answers
