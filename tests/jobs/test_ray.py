"""Actors of Ray on a cluster of two workers on this machine: a killed worker, and a killed driver."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.data.packing.test_tasks import job_of, one
from tests.data.packing.test_tasks import same as same_folder
from tests.embedding.table_jobs.killing import KillingWork as KillingEmbedWork
from tests.embedding.table_jobs.test_tasks import same
from tests.jobs.killing import KillingWork
from tests.jobs.made import MadeWork
from tests.jobs.several import started
from tests.jobs.test_local import ITEMS, alive, joined, plan_of, wait_until
from tests.teachers.local_teacher import write_sounds

from unheard import api
from unheard.data.packing import job as packing
from unheard.data.packing.job import pack_in_tasks
from unheard.embedding.table_jobs.run import TableJob
from unheard.errors import JobWarning
from unheard.jobs.engines import Spread, open_workers
from unheard.jobs.supervise import run

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")


def test_a_lost_actor_loses_nothing_and_doubles_nothing(tmp_path):
    items = [*ITEMS, "kill", "last"]
    plan, work = plan_of(tmp_path, items, 5), MadeWork(tmp_path)

    def job():
        with open_workers(Spread("ray", 2), work, len(items)) as workers:
            run(plan, work, workers)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", JobWarning)
        started(job)
    assert joined(plan) == items
    (text,) = [str(each.message) for each in caught if each.category is JobWarning]
    assert "a worker was lost in task 5 of 5, because Ray reports ActorDiedError" in text


def test_the_table_of_ray_is_that_of_one_process(tmp_path, monkeypatch):
    sounds, plain = tmp_path / "sounds", TableJob.work
    sounds.mkdir()
    for index in range(7):
        noise = np.random.default_rng(index).standard_normal(4000 * (index + 1)) * 0.1
        soundfile.write(sounds / f"{index}.wav", noise, 16000)
    (sounds / "3-broken.mp3").write_text("no sound")
    api.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    monkeypatch.setattr(TableJob, "work", lambda job: KillingEmbedWork(plain(job), ("4.wav",), tmp_path))
    out = tmp_path / "many.parquet"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JobWarning)
        report = started(
            lambda: api.embed("random-tiny", sounds, out, engine="ray", processes=2, device="cpu", resume=True)
        )
    assert (tmp_path / "killed-4.wav").exists()
    assert [Path(path).name for path, _ in report.skipped] == ["3-broken.mp3"]
    same(tmp_path / "one.parquet", out)


def test_the_shards_of_ray_are_those_of_one_process(tmp_path, monkeypatch):
    write_sounds(tmp_path / "sounds")
    made, plain = job_of(tmp_path / "sounds", tmp_path / "many"), packing.shard_job
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(
        packing,
        "shard_job",
        lambda folder, shards, key, work, *rest: plain(
            folder, shards, key, KillingWork(work, tmp_path / "place"), *rest
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JobWarning)
        started(lambda: pack_in_tasks(made, Spread("ray", 2)))
    assert (tmp_path / "place/killed").exists()
    same_folder(one(tmp_path / "sounds", tmp_path / "one"), tmp_path / "many")


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.jobs.made import MadeWork
from tests.jobs.test_local import plan_of
from tests.jobs.several import started
from unheard.jobs.engines import Spread, open_workers
from unheard.jobs.supervise import run
place = Path(sys.argv[1])
work = MadeWork(place)
def job():
    with open_workers(Spread("ray", 1), work, 3) as workers:
        run(plan_of(place, ["first", "slow", "third"], 3), work, workers)
started(job)
"""


def test_actors_end_with_a_killed_driver_and_done_tasks_stay(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path, root])
    wait_until(lambda: (tmp_path / "slow").exists() or driver.poll() is not None, 300)
    (worker,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("worker-*"))
    driver.kill()
    driver.wait()
    wait_until(lambda: not alive(worker), 120)
    plan = plan_of(tmp_path, ["first", "slow", "third"], 3)
    assert plan.missing() == [2, 3]
