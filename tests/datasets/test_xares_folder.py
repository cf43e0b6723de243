"""Tasks in the layout of X-ARES: what a table becomes, and that the evaluation reads it."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.datasets.hear_tasks import TaskOptions, build_table_task
from unheard.datasets.write_hear_folder import Event, Item, TaskSpec
from unheard.datasets.xares_folder import OWN_TASK, write_xares_folder
from unheard.errors import ConfigError, DataError
from unheard.evaluation.xares.shards import find_shards, read_samples
from unheard.evaluation.xares.tasks import read_task

RATE = 16000
XARES = TaskOptions(layout="xares")


def table(folder: Path, columns: list[str], rows: list[list[str]]) -> Path:
    """A label table with one sound a row."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        sound = np.full(RATE // 4 + number, 0.001 * number, np.float32)
        soundfile.write(folder / row[0], sound, RATE)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder / "labels.csv"


def samples(folder: Path, pattern: str) -> dict[str, object]:
    found = [each for shard in find_shards(folder, pattern) for each in read_samples(shard, pytest.fail)]
    return {each.key: each.record for each in found}


def test_a_table_becomes_a_task_that_the_evaluation_reads(tmp_path: Path) -> None:
    sides = ["train"] * 10 + ["test"] * 4
    rows = [[f"{number}.wav", "ab"[number % 2], side] for number, side in enumerate(sides)]
    report = build_table_task(table(tmp_path / "birds", ["path", "label", "split"], rows), tmp_path / "out", XARES)
    assert report.folder.name == "birds" and report.clips == {"test": 4, "train": 8, "valid": 2}
    task = read_task(report.folder)
    assert task is not None and task.classes == ("a", "b") and task.weight == 4 and not task.public
    assert samples(report.folder, "test-") == {
        f"{number:06d}-{number}": {"label": "ab"[number % 2]} for number in range(10, 14)
    }
    (shard,) = find_shards(report.folder, "test-")
    lengths = [sample.channels.shape[1] for sample in read_samples(shard, pytest.fail)]
    assert lengths == [RATE // 4 + number for number in range(10, 14)]  # clips keep their lengths


def test_a_table_without_sides_gets_folds_that_keep_groups_together(tmp_path: Path) -> None:
    rows = [[f"{number}.wav", "ab"[number % 2], f"g{number // 4}"] for number in range(40)]
    report = build_table_task(table(tmp_path / "birds", ["path", "label", "group"], rows), tmp_path / "out", XARES)
    assert list(report.clips) == [f"fold{k:02d}" for k in range(5)] and sum(report.clips.values()) == 40
    places = [{int(key[:6]) // 4 for key in samples(report.folder, f"{fold}-")} for fold in report.clips]
    assert sum(map(len, places)) == len(set().union(*places)) == 10


def test_several_labels_and_events_are_written_as_x_ares_does(tmp_path: Path) -> None:
    sheet = TaskSpec("tags", "split", 0.1, ("mAP",), multilabel=True)
    sound = np.linspace(-2, 2, RATE, dtype=np.float32)
    items = [Item(side, side, ("b", "a"), lambda rate: sound) for side in ("train", "valid", "test")]
    tags = write_xares_folder(sheet, items, tmp_path, RATE)
    assert samples(tags, "train-") == {"train": {"label": "a;b"}}
    with tarfile.open(tags / "test-000000.tar") as tar:
        file = tar.extractfile("test.wav")
        assert file is not None
        written, rate = soundfile.read(io.BytesIO(file.read()))
    assert rate == RATE and len(written) == RATE // 10 and abs(written).max() <= 1
    events = (Event("knock", 100, 250),)
    timed = [
        Item(side, side, events if side == "train" else (), lambda rate: sound) for side in ("train", "valid", "test")
    ]
    steps = write_xares_folder(TaskSpec("steps", "split", 1.0, ("event",), event=True), timed, tmp_path, RATE)
    assert samples(steps, "train-") == {"train": [{"onset": 0.1, "offset": 0.25, "label": "knock"}]}
    assert samples(steps, "test-") == {"test": []}
    task = read_task(steps)
    assert task is not None and (task.kind, task.metric, task.seconds) == ("frames", "segmentf1_macro", 1.0)
    with pytest.raises(DataError, match="contains ';'"):
        write_xares_folder(sheet, [Item("x", "train", ("a;b", "c"), lambda rate: sound)], tmp_path / "odd", RATE)


def test_equal_tasks_are_equal_files_and_foreign_folders_are_kept(tmp_path: Path) -> None:
    sheet = TaskSpec("tags", "split", 0.1, ("mAP",))
    items = [Item(side, side, ("a",), lambda rate: np.zeros(rate, np.float32)) for side in ("train", "valid", "test")]
    first, second = (write_xares_folder(sheet, items, tmp_path / name, RATE) for name in "ab")
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [
        path.read_bytes() for path in sorted(second.iterdir())
    ]
    with pytest.raises(ConfigError, match="exists"):
        write_xares_folder(sheet, items, tmp_path / "a", RATE)
    write_xares_folder(sheet, items, tmp_path / "a", RATE, overwrite=True)
    assert json.loads((first / OWN_TASK).read_text())["weight"] == 1
    (first / OWN_TASK).unlink()
    with pytest.raises(ConfigError, match="exists"):
        write_xares_folder(sheet, items, tmp_path / "a", RATE, overwrite=True)


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    rows = [[f"{number}.wav", "ab"[number % 2]] for number in range(10)]
    labels = table(tmp_path / "birds", ["path", "label"], rows)
    with pytest.raises(ConfigError, match="--layout xares"):
        build_table_task(labels, tmp_path / "out", TaskOptions())
    with pytest.raises(ConfigError, match="one sample rate"):
        build_table_task(labels, tmp_path / "out", TaskOptions((16000, 44100), layout="xares"))


def test_two_tables_that_would_be_one_task_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"{number}.wav", "ab"[number % 2]] for number in range(20)]
    first, second = (table(tmp_path / parent / "drum_hit", ["path", "label"], rows) for parent in ("x", "y"))
    out = tmp_path / "out"
    for names in ([str(first), str(second)], ["drum-hit", str(second)], [str(first), str(first)]):
        assert main(["data", "tasks", *names, "-o", str(out), "--layout", "xares", "--overwrite"]) == 2
        assert "would both be the task drum_hit" in capsys.readouterr().err
    assert not out.exists()
    assert main(["data", "tasks", str(first), "-o", str(out), "--layout", "xares"]) == 0
