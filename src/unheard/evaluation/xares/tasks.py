"""Tasks of X-ARES: their splits, labels, metrics and weights, and tasks of a user in the same layout.

Source: the X-ARES specification, section 2 (jimbozhang/xares 161f0ef). The order of classes is in ``labels.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from itertools import permutations
from pathlib import Path
from typing import Any, Literal, get_args

from unheard.datasets.xares_folder import OWN_TASK
from unheard.errors import ConfigError, DataError

Kind = Literal["single", "multi", "frames", "captions"]
Metric = Literal["accuracy", "mAP", "segmentf1_macro", "segmentf1_micro", "recallatk_r1"]

METRICS: dict[Kind, tuple[Metric, ...]] = {
    "single": ("accuracy",),
    "multi": ("mAP",),
    "frames": ("segmentf1_macro", "segmentf1_micro"),
    "captions": ("recallatk_r1",),
}
"""Metrics of each kind of task."""


@dataclass(frozen=True)
class XaresTask:
    """A task.

    Parameters
    ----------
    name, title : str
        Name of the folder, and name in tables.
    weight : int
        Weight in averages.
    label : str
        Field of the json with the label; empty: the json itself is the answer.
    splits : tuple of str
        Beginning of the shards for training, validation and test.
    folds : tuple of str
        Beginning of the shards of each fold, instead of ``splits``.
    kind : {"single", "multi", "frames", "captions"}
        One class a clip, several, events over time, or captions.
    metric : str
    classes : tuple
        Labels in the order of the classes.
    epochs, batch, encode_batch : int
        Epochs and batch size of the head; clips that are encoded at once.
    crop : float or None
        Length of crops in seconds.
    knn : bool
        Whether nearest neighbours are scored.
    segment : float
        Seconds of the segments of `metric`.
    seconds : float or None
        Length of the clips of an event task; None: each ends at its last event.
    positive_weight : float
        Weight of active frames in the loss.
    public : bool
        Whether it is a task of X-ARES.
    """

    name: str
    title: str
    weight: int
    label: str
    splits: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    kind: Kind = "single"
    metric: Metric = "accuracy"
    classes: tuple[Any, ...] = ()
    epochs: int = 10
    batch: int = 32
    encode_batch: int = 16
    crop: float | None = None
    knn: bool = True
    segment: float = 1.0
    seconds: float | None = None
    positive_weight: float = 1.0
    public: bool = True

    @property
    def patterns(self) -> tuple[str, ...]:
        """The distinct beginnings of shards."""
        return self.folds or tuple(dict.fromkeys(self.splits))


def _folds(text: str, numbers: range) -> tuple[str, ...]:
    return tuple(text.format(number) for number in numbers)


def _splits(text: str, *parts: str) -> tuple[str, ...]:
    return tuple(text.format(part) for part in parts)


_WDS = _splits("wds-audio-{}", "train", "valid", "test")
_TASKS = (
    XaresTask("asvspoof2015", "ASV2015", 2000, "binary_spoof", _splits("asvspoof_{}", "train", "valid", "eval"),
              epochs=5, batch=64),
    XaresTask("clotho", "Clotho", 1045, "", _splits("clotho_{}", "development", "evaluation", "validation"),
              kind="captions", metric="recallatk_r1", epochs=20, batch=128, crop=30, knn=False),
    XaresTask("cremad", "CREMA-D", 1116, "label", _WDS),
    XaresTask("desed", "DESED", 1153, "", _splits("wds-audio-{}", "train", "eval", "eval"), kind="frames",
              metric="segmentf1_macro", knn=False, seconds=10),
    XaresTask("esc50", "ESC-50", 400, "label", folds=_folds("wds-audio-fold-{}-", range(1, 6)),
              classes=tuple(range(50))),
    XaresTask("fluentspeechcommands", "Fluent Speech Commands", 2000, "transcription",
              _splits("fluentspeechcommands_{}", "train", "valid", "test"), encode_batch=1),
    XaresTask("freemusicarchive", "Free Music Archive Small", 800, "genre",
              _splits("fma_small_{}", "train", "valid", "test"), epochs=3, crop=10),
    XaresTask("fsd50k", "FSD50k", 2000, "soundevent", _splits("fsd50k_{}", "train", "validation", "eval"),
              kind="multi", metric="mAP", batch=64, crop=10, knn=False),
    XaresTask("fsdkaggle2018", "FSD18-Kaggle", 1600, "sound", _splits("fsd18_{}", "train", "test", "test"), epochs=3,
              batch=64, knn=False),
    XaresTask("gtzan_genre", "GTZAN Genre", 100, "genre", folds=_folds("gtzan_fold_{}_0000000", range(10))),
    XaresTask("libricount", "LibriCount", 1144, "num_speakers", folds=_folds("libricount_fold0{}", range(5)),
              batch=64),
    XaresTask("librispeechmalefemale", "LibriSpeech-MF", 2620, "gender", ("train-clean-100", "dev-clean", "test-clean"),
              crop=5),
    XaresTask("maestro", "MAESTRO", 65, "", _splits("maestro_{}", "train", "valid", "test"), kind="frames",
              metric="segmentf1_micro", epochs=50, batch=1, encode_batch=1, knn=False, segment=0.1,
              positive_weight=10),
    XaresTask("nsynthinstument", "NSynth-Instruments", 2000, "instrument_family_str",
              _splits("nsynth_{}", "train", "valid", "test")),
    XaresTask("ravdess", "RAVDESS", 360, "emotion", folds=_folds("ravdess_fold_{}_0000000", range(4))),
    XaresTask("speechcommandsv1", "Speech Commands V1", 2000, "labels", _WDS, batch=64),
    XaresTask("urbansound8k", "UrbanSound 8k", 873, "soundevent",
              folds=_folds("urbansound_fold{}_0000000", range(1, 11))),
    XaresTask("vocalimitations", "Vocal Imitation", 1867, "imitation",
              folds=_folds("vocal_imitations_fold0{}_0000000", range(3)), epochs=20, encode_batch=1),
    XaresTask("vocalsound", "VocalSound", 2000, "label", ("train", "valid", "test")),
    XaresTask("voxceleb1", "VoxCeleb1", 2000, "speakerid", _splits("voxceleb1_{}", "train", "valid", "test"), crop=6),
    XaresTask("voxlingua33", "VoxLingua33", 1609, "labels", ("train_subset", "dev", "dev"), batch=64, crop=10),
)  # fmt: skip

ASR, ASR_WEIGHT = "librispeech", 10_000
"""Folder and weight of the speech recognition task, which needs a language model and is left out."""


@cache
def public_tasks() -> Mapping[str, XaresTask]:
    """Return the 21 public tasks that need no language model, by folder name."""
    labels = json.loads(files("unheard.evaluation.xares").joinpath("labels.json").read_text(encoding="utf-8"))
    return {task.name: replace(task, classes=tuple(labels.get(task.name, task.classes))) for task in _TASKS}


def public_weights() -> dict[str, int]:
    """Return the weight of each of the 22 public tasks."""
    return {ASR: ASR_WEIGHT, **{name: task.weight for name, task in public_tasks().items()}}


def read_task(folder: Path) -> XaresTask | None:
    """Return the task of a folder; None if it is neither a task of X-ARES nor holds an `OWN_TASK` file.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    if folder.name in public_tasks():
        return public_tasks()[folder.name]
    file = folder / OWN_TASK
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name for field in fields(XaresTask)} - {"name", "public"}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {', '.join(unknown)}")
        lists: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        task = XaresTask(**{"title": folder.name, **lists}, name=folder.name, public=False)
        return _checked(task)
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"{file} describes no task ({error}); see the guide of evaluate for its fields") from error


def _checked(task: XaresTask) -> XaresTask:
    if task.kind not in get_args(Kind) or task.metric not in get_args(Metric):
        raise ValueError(f"kind {task.kind!r} or metric {task.metric!r} does not exist")
    if task.metric not in METRICS[task.kind]:
        raise ValueError(f"the metric of the kind {task.kind!r} is {' or '.join(METRICS[task.kind])}")
    for name in ("weight", "epochs", "batch", "encode_batch"):
        if type(value := getattr(task, name)) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if len(task.splits) != 3 and len(task.folds) < 2:
        raise ValueError("it needs splits (training, validation, test) or at least two folds")
    if task.kind != "captions" and (not task.classes or len(set(task.classes)) < len(task.classes)):
        raise ValueError("it needs classes, each once")
    if task.knn and task.kind in ("multi", "frames"):
        raise ValueError(f"nearest neighbours cannot score the kind {task.kind!r}; set knn to false")
    for first, second in permutations(task.patterns, 2):
        if second.startswith(first):
            raise ValueError(f"the shards of {second!r} would also be those of {first!r}, which begins their names")
    return task


def choose_tasks(root: str | Path, names: Sequence[str] = ()) -> tuple[list[tuple[Path, XaresTask]], list[str]]:
    """Return the tasks below a folder whose name starts with one of ``names``, and a remark for each other folder.

    Raises
    ------
    ConfigError
        When there is no task, or a name matches none.
    """
    folder, found, remarks = Path(root), [], []
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the folder env of X-ARES, which holds one folder a task")
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        task = read_task(path)
        if task is not None:
            found.append((path, task))
        elif path.name == ASR:
            remarks.append("librispeech is left out: it trains on a language model of 0.5 billion parameters")
        else:
            remarks.append(f"{path.name} is left out: it is no public task of X-ARES and has no {OWN_TASK}")
    available = ", ".join(path.name for path, _ in found)
    if not found:
        raise ConfigError(f"{folder} holds no task; its folders must be named as in X-ARES, such as esc50 or cremad")
    for name in names:
        if not any(path.name.startswith(name) for path, _ in found):
            raise ConfigError(f"there is no task {name} in {folder}; available: {available}")
    chosen = [each for each in found if not names or any(each[0].name.startswith(name) for name in names)]
    return chosen, [] if names else remarks
