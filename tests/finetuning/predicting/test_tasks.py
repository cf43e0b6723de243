"""Scores that are written in tasks: the bytes of the table of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.finetuning.conftest import QUICK
from tests.jobs.killing import KillingWork
from tests.jobs.several import ENGINES, LOST, started

import unheard
from unheard.cli import main
from unheard.errors import ConfigError, DataError, JobWarning
from unheard.finetuning.predicting import job as predicting
from unheard.finetuning.predicting.job import ScoreJob, ScoreReport, ScoreWork, estimate_scores, score_in_tasks
from unheard.finetuning.predicting.scorer import FileScorer, open_scorer
from unheard.jobs.engines import Spread
from unheard.jobs.running import TaskReport

GROUP = 5


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a group have five files, in this process."""
    monkeypatch.setattr("unheard.finetuning.ensemble.CHUNK", GROUP)
    monkeypatch.setattr("unheard.finetuning.predicting.scorer.CHUNK", GROUP)
    monkeypatch.setattr(predicting, "CHUNK", GROUP)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """Return a run of two steps: its scores need not be good."""
    settings = [*QUICK, "training.steps=2", "task.validation_fraction=0"]
    return unheard.finetune(
        folder / "model", folder / "labels.csv", folder / "short", settings=settings, device="cpu"
    ).folder


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Thirty sounds, and one that cannot be read."""
    broken = tmp_path_factory.mktemp("broken") / "broken.mp3"
    broken.write_text("no sound")
    sounds = sorted(map(str, folder.glob("*.wav")))
    return [*sounds[:7], str(broken), *sounds[7:]]


@pytest.fixture(scope="module")
def scorer(run: Path) -> FileScorer:
    return open_scorer(str(run), "cpu")


@pytest.fixture
def one(run: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return the table that one process writes."""
    (tmp_path / "one").mkdir()
    assert main(["predict", str(run), *files, "-o", str(tmp_path / "one/scores.csv"), "--device", "cpu"]) == 0
    capsys.readouterr()
    return tmp_path / "one/scores.csv"


def same(one: Path, two: Path) -> None:
    assert one.read_bytes() == two.read_bytes()
    assert one.with_name(f"{one.name}.json").read_bytes() == two.with_name(f"{two.name}.json").read_bytes()
    assert not list(two.parent.glob(f".{two.name}*"))


def test_the_tasks_of_an_array_write_the_bytes_of_one_process(
    scorer: FileScorer, files: list[str], one: Path, tmp_path: Path
) -> None:
    (tmp_path / "many").mkdir()
    job = ScoreJob(scorer, files, tmp_path / "many/scores.csv", "cpu")
    reports = [score_in_tasks(job, Spread(task=f"{each}/3")) for each in (3, 1, 2)]
    assert [type(report) for report in reports] == [TaskReport, TaskReport, ScoreReport]
    assert reports[0].waits_for == "the tasks 1, 2 of 3"  # type: ignore[union-attr]
    assert isinstance(reports[2], ScoreReport)
    assert (reports[2].rows, reports[2].done, len(reports[2].skipped)) == (30, 30, 1)
    assert "broken.mp3" in reports[2].skipped[0][0]
    same(one, job.out)
    with pytest.raises(ConfigError, match="exists; choose another -o, or replace it with --overwrite"):
        score_in_tasks(job, Spread(task="1/3"))


def test_a_join_that_was_interrupted_is_repeated(
    scorer: FileScorer, files: list[str], one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "many").mkdir()
    job = ScoreJob(scorer, files, tmp_path / "many/scores.csv", "cpu")
    with monkeypatch.context() as patched:
        patched.setattr("unheard.jobs.plan.Plan.discard", lambda plan: None)
        score_in_tasks(job, Spread(task="1/1"))
    score_in_tasks(job, Spread(task="1/1"))
    same(one, job.out)


def test_a_damaged_part_is_named(scorer: FileScorer, files: list[str], tmp_path: Path) -> None:
    job = ScoreJob(scorer, files, tmp_path / "scores.csv", "cpu")
    score_in_tasks(job, Spread(task="1/2"))
    part = tmp_path / ".scores.csv.tasks/part-000001.csv"
    part.write_text("\n".join(part.read_text().split("\n")[:3]))
    with pytest.raises(DataError, match=r"part-000001.csv has 2 rows instead of \d+: it is damaged; delete"):
        score_in_tasks(job, Spread(task="2/2"))


def test_what_does_not_fit_is_refused(scorer: FileScorer, files: list[str], run: Path, tmp_path: Path) -> None:
    job = ScoreJob(scorer, files, tmp_path / "scores.csv", "cpu")
    for spread, options, message in (
        (Spread(task="1/8"), {}, "there are 8 tasks for 7 groups of 5 files"),
        (Spread(processes=8), {}, "there are 8 processes for 7 groups of 5 files; give --processes 7 or fewer"),
        (Spread(task="1/2"), {"overwrite": True}, "leave --overwrite out, and delete the old output"),
    ):
        with pytest.raises(ConfigError, match=message):
            score_in_tasks(job, spread, **options)
    score_in_tasks(job, Spread(task="1/2"))
    with pytest.raises(ConfigError, match="has parts of an interrupted job; continue it with --resume"):
        score_in_tasks(job, Spread(processes=2))
    with pytest.raises(ConfigError, match="parts of a job of 7 items, and the 1 items now are not the same"):
        score_in_tasks(ScoreJob(scorer, files[:3], job.out, "cpu"), Spread(task="1/1"))
    with pytest.raises(ConfigError, match="the table of worker 3 has another identity"):
        ScoreWork(str(run), "cpu", "float32", None, {"model": "another"}).open(3, 1)
    unreadable = ScoreJob(scorer, [files[7]], tmp_path / "none.csv", "cpu")
    with pytest.raises(DataError, match=r"none of the 1 files could be read; the first one: .*broken\.mp3"):
        score_in_tasks(unreadable, Spread(task="1/1"))


def test_the_command_continues_with_resume(
    run: Path, files: list[str], one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    given = ["predict", str(run), *files, "-o", str(tmp_path / "many/scores.csv"), "--device", "cpu", "--json"]
    assert main([*given, "--resume"]) == 2
    assert "--resume needs --spans, or an interrupted job" in capsys.readouterr().err
    assert main([*given[:-5], "--task", "1/2"]) == 2
    assert "several processes write a table of scores; give -o" in capsys.readouterr().err
    assert main([*given, "--task", "1/2", "--strict"]) == 1
    task = json.loads(capsys.readouterr().out)
    assert task["waits_for"] == "the tasks 2 of 2" and [Path(each["path"]).name for each in task["skipped"]] == [
        "broken.mp3"
    ]
    assert main(given) == 2
    assert "has parts of an interrupted job; continue it with --resume" in capsys.readouterr().err
    assert main([*given, "--task", "2/2"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 30
    same(one, tmp_path / "many/scores.csv")
    assert main(["data", "verify", str(tmp_path / "many/scores.csv")]) == 0


def test_a_plan_measures_a_sample_and_writes_nothing(scorer: FileScorer, files: list[str], tmp_path: Path) -> None:
    found = estimate_scores(ScoreJob(scorer, files, tmp_path / "scores.csv"), Spread(processes=2))
    assert (found.items, found.measured, found.tasks, found.processes) == (31, 31, 7, 2)
    assert found.megabytes > 31 * 20 / 1e6 and found.hours > 0 and found.audio_hours is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_of_which_one_is_killed(
    scorer: FileScorer, files: list[str], one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    (tmp_path / "many").mkdir()
    plain = predicting.Job
    monkeypatch.setattr(
        predicting, "Job", lambda *given: plain(*given[:5], KillingWork(given[5], tmp_path), *given[6:])
    )
    job = ScoreJob(scorer, files, tmp_path / "many/scores.csv", "cpu")
    with pytest.warns(JobWarning, match=rf"({LOST}).*use fewer --processes"):
        report = started(lambda: score_in_tasks(job, Spread(engine, 2)))
    assert isinstance(report, ScoreReport) and (report.rows, len(report.skipped)) == (30, 1)
    same(one, job.out)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.jobs.killing import KillingWork
from unheard.finetuning.predicting import job
from unheard.finetuning.predicting.scorer import open_scorer
from unheard.jobs.engines import Spread
if __name__ == "__main__":
    job.CHUNK, plain, out = 5, job.Job, Path(sys.argv[2])
    job.Job = lambda *given: plain(*given[:5], KillingWork(given[5], out.parent, 3, parent=True), *given[6:])
    job.score_in_tasks(job.ScoreJob(open_scorer(sys.argv[1], "cpu"), sys.argv[4:], out, "cpu"), Spread(processes=2))
"""


@pytest.mark.slow
def test_a_killed_driver_loses_no_part(run: Path, files: list[str], one: Path, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "many").mkdir()
    out, root = tmp_path / "many/scores.csv", str(Path(__file__).parents[3])
    command = [sys.executable, tmp_path / "driver.py", run, out, root, *files]
    assert subprocess.run(command, capture_output=True).returncode == -9
    assert not out.exists()
    job = ScoreJob(open_scorer(str(run), "cpu"), files, out, "cpu")
    report = score_in_tasks(job, Spread(processes=2), resume=True)
    assert isinstance(report, ScoreReport) and report.resumed > 0 and report.done + report.resumed == 30
    same(one, out)
