"""Task folders are read as they are written, and refused by name when they are broken."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.made import make_task

from unheard.errors import DataError
from unheard.evaluation.hear.events import Events, Postprocessing
from unheard.evaluation.hear.rows import parts, untrained_labels
from unheard.evaluation.hear.scores import SCORES
from unheard.evaluation.hear.task_folder import find_tasks, read_task

STORED = Path(__file__).parent / "heareval" / "tasks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(STORED / "tiny_tags-v1.0-full", tmp_path / "hear-2021" / "tasks" / "tiny_tags-v1.0-full")
    )


def change(folder: Path, **values: Any) -> None:
    path = folder / "task_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_scene_and_event_tasks_are_read(folder: Path) -> None:
    tags = read_task(folder)
    assert (tags.event, tags.multilabel, tags.folds, tags.seconds) == (False, True, False, None)
    assert tags.scores[0] == "mAP" and len(tags.labels) == 6
    assert [len(tags.clips[split]) for split in tags.splits] == [60, 24, 24]
    sounds = read_task(STORED / "tiny_events-v1.0-full")
    first = next(iter(sounds.clips["train"].values()))
    assert isinstance(first, Events) and first.start[0] == 1357.337
    assert sounds.postprocessing == (Postprocessing(250, 125), Postprocessing(250, 250))


def test_tasks_are_found_where_archives_unpack(folder: Path) -> None:
    assert find_tasks(folder.parent.parent.parent) == [folder]
    assert find_tasks(folder) == [folder]
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no task"):
        find_tasks(empty)


def test_unknown_keys_are_ignored_and_numbers_may_be_labels(folder: Path) -> None:
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + "".join(f"{i},{60 + i}\n" for i in range(6)))
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(json.dumps({f"{split}-a.wav": [60], f"{split}-b.wav": [63]}))
    change(folder, prediction_type="multiclass", evaluation=["pitch_acc"], something_new={"x": 1})
    assert [clip.tolist() for clip in read_task(folder).clips["test"].values()] == [[0], [3]]


def test_folds_take_turns(folder: Path) -> None:
    for name, split in {"fold02": "train", "fold00": "valid", "fold01": "test"}.items():
        shutil.copyfile(folder / f"{split}.json", folder / f"{name}.json")
    change(folder, split_mode="new_split_kfold", splits=["fold02", "fold00", "fold01"])
    rounds = parts(read_task(folder))
    assert [(part.test, part.valid, part.train) for part in rounds] == [
        ("fold00", "fold01", ("fold02",)),
        ("fold01", "fold02", ("fold00",)),
        ("fold02", "fold00", ("fold01",)),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"evaluation": ["word_error"]}, "asks for word_error"),
        ({"evaluation": ["event_onset_50ms_fms"]}, "asks for event_onset_50ms_fms"),
        ({"embedding_type": "clip"}, "embedding_type is 'clip'"),
        ({"splits": ["train", "test"]}, "needs train, valid and test"),
        ({"split_mode": "new_split_kfold", "splits": ["train", "valid"]}, "2 folds"),
        ({"prediction_type": "multiclass"}, "needs exactly one"),
        ({"sample_duration": "5s"}, "sample_duration is '5s'"),
        ({"evaluation_params": {"task_specific_param_grid": {"lr": 0.1}}}, "lr to 0.1; it must be a list"),
        ({"splits": None}, "the splits None; they must be a list of names"),
        ({"splits": "train"}, "the splits 'train'; they must be a list of names"),
        ({"splits": {"train": 1, "valid": 2, "test": 3}}, "they must be a list of names"),
        ({"splits": ["train", "valid", "test", "test"]}, "the split test twice"),
        ({"split_mode": "new_split_kfold", "splits": ["train", "valid", "valid"]}, "the split valid twice"),
    ],
)
def test_what_a_task_asks_for_must_exist(folder: Path, values: dict[str, Any], message: str) -> None:
    change(folder, **values)
    with pytest.raises(DataError, match=message):
        read_task(folder)


def test_broken_files_are_named(folder: Path) -> None:
    (folder / "test.json").write_text(json.dumps({"a.wav": ["unicorn"]}))
    with pytest.raises(DataError, match=r"test\.json.*a\.wav.*unicorn"):
        read_task(folder)
    (folder / "test.json").write_text("{")
    with pytest.raises(DataError, match=r"test\.json cannot be read"):
        read_task(folder)
    (folder / "labelvocabulary.csv").write_text("idx,label\n1,x\n")
    with pytest.raises(DataError, match="count the labels from 0"):
        read_task(folder)
    (folder / "task_metadata.json").write_text("{}")
    with pytest.raises(DataError, match="lacks 'embedding_type'"):
        read_task(folder)


def test_a_file_belongs_to_one_split(folder: Path) -> None:
    shared = next(iter(json.loads((folder / "valid.json").read_text()).items()))
    (folder / "test.json").write_text(json.dumps(json.loads((folder / "test.json").read_text()) | dict([shared])))
    with pytest.raises(DataError, match=rf"{shared[0]} is in the splits valid and test"):
        read_task(folder)


def test_a_single_class_is_seen_in_the_labels(folder: Path) -> None:
    label = (folder / "labelvocabulary.csv").read_text().splitlines()[1].split(",", 1)[1]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(json.dumps({f"{split}-{index}.wav": [label] for index in range(3)}))
    read_task(folder)  # several labels may apply, so that one alone says something
    change(folder, prediction_type="multiclass", evaluation=["top1_acc"])
    with pytest.raises(DataError, match="all clips of train have the same class"):
        read_task(folder)


def test_two_tasks_of_one_name_are_refused(folder: Path) -> None:
    root = folder.parent.parent.parent
    shutil.copytree(folder, root / "other" / folder.name)
    with pytest.raises(DataError, match=rf"hear-2021/tasks/{folder.name} and .*other/{folder.name} have the same name"):
        find_tasks(root)


def test_a_d_prime_of_both_infinities_is_undefined_without_a_warning() -> None:
    target, probability = np.array([[1, 1], [0, 0]]), np.array([[0.9, 0.1], [0.1, 0.9]])
    assert math.isnan(SCORES["d_prime"].compute(target, probability))


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "no file of test has an event"),
        ([{"label": "loud", "start": 300, "end": 200}], "an event of test0.wav has impossible times"),
        ([{"label": "loud", "start": -5, "end": 200}], "an event of test0.wav has impossible times"),
        ([{"label": "loud", "start": None, "end": 200}], "an event of test0.wav has impossible times"),
        ([{"label": "loud", "start": 0, "end": math.inf}], "an event of test0.wav has impossible times"),
    ],
)
def test_events_that_cannot_be_are_refused(tmp_path: Path, events: list[dict[str, object]], message: str) -> None:
    spoiled = make_task(tmp_path / "spoiled-v1", event=True)
    (spoiled / "test.json").write_text(json.dumps({"test0.wav": events}))
    with pytest.raises(DataError, match=message):
        read_task(spoiled)


def test_stopping_by_the_loss_chooses_no_post_processing(tmp_path: Path) -> None:
    task = make_task(tmp_path / "onsets-v1", event=True)
    change(task, use_scoring_for_early_stopping=False)
    with pytest.raises(DataError, match="cannot select one of 2 post-processing settings; give one"):
        read_task(task)
    change(task, evaluation_params={"event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [125]}})
    assert len(read_task(task).postprocessing) == 1


def test_labels_that_no_fold_trains_are_reported(folder: Path) -> None:
    for split, labels in {"fold00": [0, 1], "fold01": [0], "fold02": [0, 1, 2, 3, 4, 5, 6, 7, 8]}.items():
        (folder / f"{split}.json").write_text(json.dumps({f"{split}-{label}.wav": [str(label)] for label in labels}))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + "".join(f"{i},{i}\n" for i in range(9)))
    change(folder, split_mode="new_split_kfold", splits=["fold00", "fold01", "fold02"])
    assert untrained_labels(read_task(folder)) == [
        "tiny_tags-v1.0-full: the files of fold01 have one label of 9",
        "tiny_tags-v1.0-full: no training file has the label 1, 2, 3, 4, 5 and 3 more, which fold02 has",
    ]
    change(folder, prediction_type="multilabel")
    (folder / "fold01.json").write_text('{"fold01-0.wav": []}')
    with pytest.raises(DataError, match="no file of fold01 has a label"):
        read_task(folder)
