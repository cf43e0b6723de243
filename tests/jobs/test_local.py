"""Local processes: parts, lost workers, errors, and the end of the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from tests.jobs.made import MadeWork

from unheard.errors import AudioError, AudioWarning, ConfigError, DataError, JobWarning, UnheardError
from unheard.jobs.engines import Spread, array_task, open_workers, worker_count
from unheard.jobs.local import LocalWorkers
from unheard.jobs.plan import Plan, open_plan, read_outcome, task_count
from unheard.jobs.ray_workers import refuse_unreachable
from unheard.jobs.supervise import MOST_LOSSES, run

ITEMS = [f"item {number}" for number in range(7)]


def plan_of(place: Path, items: list[str], tasks: int) -> Plan:
    return open_plan(place / "tasks", {"made": 1}, items, items, tasks)


def joined(plan: Plan) -> list[str]:
    return [
        line for each in plan.outcomes() for line in plan.part(each.number).with_suffix(".txt").read_text().split("\n")
    ]


def test_tasks_hold_every_item_once_in_order(tmp_path):
    for tasks in range(1, 8):
        plan = Plan(tmp_path, ITEMS, tasks)
        found = [item for number in range(1, tasks + 1) for item in plan.task(number).items]
        assert found == ITEMS
        assert all(plan.task(number).items for number in range(1, tasks + 1))


def test_the_number_of_tasks_suits_workers_and_items():
    assert task_count(1, 8) == 1
    assert task_count(100, 2) == 8
    assert task_count(2_000_000, 2) == 7813
    assert task_count(100_000_000, 2) == 10_000


def test_a_lost_worker_loses_nothing_and_doubles_nothing(tmp_path):
    items = [*ITEMS, "kill", "warn"]
    plan, work = plan_of(tmp_path, items, 4), MadeWork(tmp_path)
    with pytest.warns() as caught:
        run(plan, work, LocalWorkers(work, 2))
    assert joined(plan) == items
    assert not plan.missing()
    texts = {each.category: str(each.message) for each in caught}
    assert "lost in task 4 of 4, because its process was ended by signal 9 (SIGKILL)" in texts[JobWarning]
    assert "If memory was short, give less" in texts[JobWarning]
    assert texts[AudioWarning] == "warn: it is truncated"
    assert len(list(tmp_path.glob("killed-*"))) == 1


def test_done_tasks_are_not_repeated_and_an_error_stops_the_job(tmp_path):
    items = [*ITEMS, "fail"]
    plan, work = plan_of(tmp_path, items, 4), MadeWork(tmp_path)
    with pytest.raises(AudioError, match="^fail: it is no sound; convert it$"):
        run(plan, work, LocalWorkers(work, 1))
    assert plan.missing() == [4]
    written = plan.part(1).with_suffix(".txt").stat().st_mtime_ns
    with pytest.raises(AudioError, match="fail"):
        run(plan, work, LocalWorkers(work, 1))
    assert plan.part(1).with_suffix(".txt").stat().st_mtime_ns == written


def test_an_unexpected_error_keeps_its_traceback(tmp_path):
    plan, work = plan_of(tmp_path, ["bug"], 1), MadeWork(tmp_path)
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        run(plan, work, LocalWorkers(work, 1))
    assert "in _act" in caught.value.__notes__[0]


def test_a_task_that_always_loses_its_worker_ends_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr("unheard.jobs.supervise.MOST_LOSSES", 2)
    plan, work = plan_of(tmp_path, ["kill", "other"], 2), MadeWork(tmp_path, kills=MOST_LOSSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JobWarning)
        with pytest.raises(
            DataError, match=r"task 1 of 2 lost 2 workers.*SIGKILL.*give less; then continue with --res"
        ):
            run(plan, work, LocalWorkers(work, 1))


DRIVER = """
import signal
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.jobs.made import MadeWork
from tests.jobs.test_local import plan_of
from unheard.jobs.local import LocalWorkers
from unheard.jobs.supervise import run
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for jobs in the background
    place = Path(sys.argv[1])
    work = MadeWork(place)
    run(plan_of(place, ["first", "slow", "third"], 3), work, LocalWorkers(work, 1))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(tmp_path, how):
    (tmp_path / "driver.py").write_text(DRIVER)
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path, root], stderr=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "slow").exists())
    (worker,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("worker-*"))
    driver.send_signal(how)
    driver.communicate()
    wait_until(lambda: not alive(worker))
    plan = plan_of(tmp_path, ["first", "slow", "third"], 3)
    assert plan.missing() == [2, 3]
    assert read_outcome(plan.part(1)).done == 1


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_plan_of_other_items_is_refused(tmp_path):
    assert plan_of(tmp_path, ITEMS, 3).tasks == 3
    assert plan_of(tmp_path, ITEMS, 5).tasks == 3  # the stored number: its parts fit no other one
    with pytest.raises(ConfigError, match="has parts of a job of 7 items, and the 6 items now are not the same"):
        plan_of(tmp_path, ITEMS[:6], 3)
    (tmp_path / "tasks/plan.json").write_text("{}")
    with pytest.raises(DataError, match=r"plan\.json has no checksum.*delete its folder to start again"):
        plan_of(tmp_path, ITEMS, 3)


@pytest.mark.parametrize(
    ("spread", "message"),
    [
        (Spread(engine="slurm"), "there is no engine 'slurm'; available: local, ray"),
        (Spread(processes=0), "--processes must be at least 1; got 0"),
        (Spread(processes=9), "there are 9 processes for 7 files; give --processes 7 or fewer"),
        (Spread(processes=2, task="1/2"), "--task does one task in this process"),
        (Spread(engine="ray", task="1/2"), "--task does one task in this process"),
    ],
)
def test_invalid_choices_are_refused(spread, message):
    with pytest.raises(ConfigError, match=message):
        worker_count(spread, 7, "files")


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "1/0", "-1/4", "a/b", ""])
def test_tasks_of_an_array_have_a_number_and_a_count(text):
    assert array_task(Spread(task="4/4"), 7, "files") == (4, 4)
    with pytest.raises(ConfigError, match=r"--task must be I/N with I from 1 to N, such as 3/100"):
        array_task(Spread(task=text), 7, "files")
    with pytest.raises(ConfigError, match="there are 8 tasks for 7 files; give --task I/7 or fewer tasks"):
        array_task(Spread(task="1/8"), 7, "files")


def test_ray_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UnheardError, match="the package ray"),
        open_workers(Spread(engine="ray"), MadeWork(tmp_path), 1),
    ):
        pass


def test_a_worker_that_was_killed_while_it_was_idle_is_replaced(tmp_path):
    work = MadeWork(tmp_path)
    plan, workers = plan_of(tmp_path, ["one", "two"], 2), LocalWorkers(work, 1)
    workers.give(plan.task(1))
    assert workers.wait()[1].number == 1  # type: ignore[union-attr]
    (worker,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("worker-*"))
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not workers._idle[0][1].is_alive())  # all of its threads have ended
    try:
        workers.give(plan.task(2))
        assert workers.wait()[1].number == 2  # type: ignore[union-attr]
    finally:
        workers.close()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_ray_cluster_that_does_not_answer_is_named(address):
    with pytest.raises(UnheardError, match=f"no Ray cluster accepts a connection at {address}.*correct RAY_ADDRESS"):
        refuse_unreachable(address)
    for other in ("", "auto", "local"):
        refuse_unreachable(other)
