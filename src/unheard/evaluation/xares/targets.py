"""Targets of X-ARES tasks from the json of their samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unheard.errors import DataError, shown
from unheard.evaluation.xares.tasks import XaresTask

SHOWN = 8  # labels that a message lists; our choice
CAPTIONS = 5
"""Captions of a clip of Clotho."""


def class_indices(task: XaresTask, keys: Sequence[str], records: Sequence[Any]) -> Int[Tensor, " n"]:
    """Return the class of each clip.

    Raises
    ------
    DataError
        When a label is missing or unknown; names the clip.
    """
    index = _index(task)
    return torch.tensor([_one(task, index, _label(task, key, record), key) for key, record in _pairs(keys, records)])


def multi_hot(task: XaresTask, keys: Sequence[str], records: Sequence[Any]) -> Float[Tensor, "n C"]:
    """Return 1 where a class applies; labels are joined by ``;``. Errors as in `class_indices`."""
    index, found = _index(task), torch.zeros(len(records), len(task.classes))
    for row, (key, record) in enumerate(_pairs(keys, records)):
        text = str(_label(task, key, record))
        for label in text.split(";") if text or task.public else []:
            found[row, _one(task, index, label, key)] = 1
    return found


def event_targets(
    task: XaresTask, keys: Sequence[str], records: Sequence[Any], hop: float
) -> list[Float[Tensor, "L C"]]:
    """Return 1 where a class is active in a frame, for each clip. Errors as in `class_indices`.

    A frame index is ceil(seconds / hop), for the start and for the end of an event alike.

    Parameters
    ----------
    hop : float
        Seconds between frames.
    """
    index, found = _index(task), []
    for key, record in _pairs(keys, records):
        events = [event for each in _events(task, key, record) for event in _frame_events(task, index, key, each, hop)]
        length = math.ceil(task.seconds / hop) if task.seconds else max((end for *_, end in events), default=0)
        active = torch.zeros(length, len(task.classes))
        for label, start, end in events:
            active[start:end, label] = 1
        found.append(active)
    return found


def captions(task: XaresTask, keys: Sequence[str], records: Sequence[Any]) -> list[list[str]]:
    """Return the captions of each clip.

    Raises
    ------
    DataError
        When a json does not hold five captions.
    """
    found = []
    for key, record in _pairs(keys, records):
        texts = list(record.values()) if isinstance(record, dict) else []
        if len(texts) != CAPTIONS or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{task.name}: the json of {shown(key)} has no {CAPTIONS} captions")
        found.append(texts)
    return found


def _pairs(keys: Sequence[str], records: Sequence[Any]) -> list[tuple[str, Any]]:
    return list(zip(keys, records, strict=True))


def _index(task: XaresTask) -> dict[Any, int]:
    return {label: index for index, label in enumerate(task.classes)}


def _label(task: XaresTask, key: str, record: Any) -> Any:
    if not isinstance(record, dict) or task.label not in record:
        raise DataError(f"{task.name}: the json of {shown(key)} has no field {task.label}")
    return record[task.label]


def _one(task: XaresTask, index: dict[Any, int], label: Any, key: str) -> int:
    if task.name == "librispeechmalefemale":
        return int(label != "M")  # as the reference
    found = index.get(label) if isinstance(label, str | int) else None
    if found is None:
        some = ", ".join(map(str, task.classes[:SHOWN])) + (", ..." if len(task.classes) > SHOWN else "")
        raise DataError(
            f"{task.name}: {shown(key)} has the unknown label {shown(label)!r}; the {len(task.classes)} labels are"
            f" {some}"
        )
    return found


def _events(task: XaresTask, key: str, record: Any) -> list[dict[str, Any]]:
    if not isinstance(record, list) or not all(isinstance(event, dict) for event in record):
        raise DataError(f"{task.name}: the json of {shown(key)} is no list of events")
    return record


def _frame_events(
    task: XaresTask, index: dict[Any, int], key: str, event: dict[str, Any], hop: float
) -> list[tuple[int, int, int]]:
    """Return class, first frame and end of an event, for each of its labels."""
    start, end = (event.get(first, event.get(second)) for first, second in (("onset", "start"), ("offset", "end")))
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in (start, end)):
        raise DataError(f"{task.name}: an event of {shown(key)} has no start and end in seconds")
    label = event.get("note", event.get("label"))
    labels = label.split(",") if isinstance(label, str) else [label]
    first, last = (math.ceil(float(each) / hop) for each in (start, end) if each is not None)
    return [(_one(task, index, each, key), max(0, first), max(0, last)) for each in labels]


def fitted(targets: Float[Tensor, "L C"], frames: int) -> Float[np.ndarray, "t C"]:
    """Return targets that are cut, or filled with zeros, to a number of frames."""
    found = np.zeros((frames, targets.shape[1]), np.float32)
    found[: len(targets)] = targets.numpy()[:frames]
    return found
