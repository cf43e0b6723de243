"""Detections that are computed in tasks: the bytes of the output of one process."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from tests.finetuning.conftest import QUICK
from tests.jobs.killing import KillingWork
from tests.jobs.several import ENGINES, LOST, started

import unheard
from unheard.cli import main
from unheard.errors import ConfigError, DataError, JobWarning
from unheard.finetuning.spans import job as spans
from unheard.finetuning.spans.job import DetectionReport

OPTIONS = {"threshold": 0.34, "window": 0.1, "hop": 0.05, "device": "cpu"}


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a group have five recordings, in this process."""
    for module in ("detecting", "tasks", "job"):
        monkeypatch.setattr(f"unheard.finetuning.spans.{module}.TOGETHER", 5)


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """Return a run of two steps: its scores need not be good."""
    settings = [*QUICK, "training.steps=2", "task.validation_fraction=0"]
    return unheard.finetune(
        folder / "model", folder / "labels.csv", folder / "short", settings=settings, device="cpu"
    ).folder


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve recordings, and one that cannot be read."""
    broken = tmp_path_factory.mktemp("broken") / "broken.mp3"
    broken.write_text("no sound")
    sounds = sorted(map(str, folder.glob("*.wav")))
    return [*sounds[:7], str(broken), *sounds[7:12]]


def content(out: Path) -> dict[str, bytes]:
    """Return the files of an output by name; nothing hidden may stay next to it."""
    assert not list(out.parent.glob(".*"))
    return {str(file.relative_to(out.parent)): file.read_bytes() for file in out.parent.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["spans.csv", "spans.txt", "labels"])
def test_the_tasks_of_an_array_write_the_bytes_of_one_process(
    model: Path, files: list[str], tmp_path: Path, name: str
) -> None:
    one, many = tmp_path / "one" / name, tmp_path / "two" / name
    whole = unheard.detect(model, files, one, **OPTIONS)
    reports = [unheard.detect(model, files, many, **OPTIONS, task=f"{each}/3") for each in (3, 1, 2)]
    assert [report.task and report.task.waits_for for report in reports] == [
        "the tasks 1, 2 of 3",
        "the tasks 2 of 3",
        None,
    ]
    assert whole.spans and reports[2].spans == whole.spans
    assert [Path(path).name for path, _ in reports[2].skipped] == ["broken.mp3"]
    assert content(one) == content(many)
    with pytest.raises(ConfigError, match="exists; choose another -o, or replace it with --overwrite"):
        unheard.detect(model, files, many, **OPTIONS, task="1/3")


def test_a_join_that_was_interrupted_is_repeated(
    model: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, many = tmp_path / "one/spans.csv", tmp_path / "two/spans.csv"
    unheard.detect(model, files, one, **OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr("unheard.jobs.plan.Plan.discard", lambda plan: None)
        unheard.detect(model, files, many, **OPTIONS, task="1/1")
    unheard.detect(model, files, many, **OPTIONS, task="1/1")
    assert content(one) == content(many)


def test_what_does_not_fit_is_refused(model: Path, files: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "spans.csv"
    for options, message in (
        ({"task": "1/4"}, "there are 4 tasks for 3 groups of "),
        ({"processes": 4}, "there are 4 processes for 3 groups of .* recordings; give --processes 3 or fewer"),
        ({"task": "1/2", "overwrite": True}, "leave --overwrite out, and delete the old output"),
        ({"task": "1/2", "truth": folder / "labels.csv"}, "annotations need all windows in one process"),
    ):
        with pytest.raises(ConfigError, match=message):
            unheard.detect(model, files, out, **OPTIONS, **options)
    with pytest.raises(ConfigError, match="several processes write their detections; give -o"):
        unheard.detect(model, files, **OPTIONS, task="1/2")
    unheard.detect(model, files, out, **OPTIONS, task="1/2")
    with pytest.raises(ConfigError, match=r"another identity \(--hop is 0.05, now 0.1\)"):
        unheard.detect(model, files, out, **{**OPTIONS, "hop": 0.1}, task="2/2")
    with pytest.raises(ConfigError, match="has parts of an interrupted job; continue it with --resume"):
        unheard.detect(model, files, out, **OPTIONS)
    part = tmp_path / ".spans.csv.tasks/part-000001.jsonl"
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"part-000001.jsonl is damaged; delete part-000001.json next to it"):
        unheard.detect(model, files, out, **OPTIONS, task="2/2")


def test_the_command_plans_and_reports_a_task(
    model: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", str(model), *files, "-o", str(tmp_path / "spans.csv"), "--spans", "--device", "cpu", "--json"]
    assert main([*given, "--plan"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["measured"], found["output"]) == (13, 13, "detections")
    assert not list(tmp_path.iterdir())
    assert main([*given, "--task", "2/2"]) == 0
    task = json.loads(capsys.readouterr().out)
    assert task["waits_for"] == "the tasks 1 of 2" and "broken.mp3" in task["skipped"][0]["path"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_of_which_one_is_killed_add_recordings(
    model: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    one, many, plain = tmp_path / "one/spans.csv", tmp_path / "two/spans.csv", spans.span_job
    unheard.detect(model, files[:5], one, **OPTIONS)
    unheard.detect(model, files[:5], many, **OPTIONS)
    unheard.detect(model, files, one, **OPTIONS, resume=True)
    monkeypatch.setattr(
        spans, "span_job", lambda out, left, work, identity: plain(out, left, KillingWork(work, tmp_path), identity)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", JobWarning)
        more = {**OPTIONS, "engine": engine, "processes": 2, "resume": True}
        report = started(lambda: unheard.detect(model, files, many, **more))
    assert any(re.search(LOST, str(each.message)) for each in caught)
    assert isinstance(report, DetectionReport) and report.resumed == 5 and len(report.recordings) == 13
    assert content(one) == content(many)
