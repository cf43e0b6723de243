"""Jobs on Ray with an output at an address: the output of one process, also after a worker or the driver was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tests.jobs.killing import KillingWork
from tests.jobs.several import started
from tests.remote.store import BUCKET, Fault, Store
from tests.remote.test_arrays import TABLE, content, local

import unheard
from unheard import api
from unheard.cli import main
from unheard.data.packing import job as packing
from unheard.embedding.table_jobs.report import BulkReport
from unheard.errors import CheckpointError, ConfigError, DataError, RemoteError
from unheard.jobs.addressed_job import AddressedJob
from unheard.jobs.addressed_ray import task_at_address
from unheard.jobs.plan import Outcome, Task, write_outcome
from unheard.jobs.session import Session
from unheard.remote import access
from unheard.remote.listing import exists
from unheard.remote.reading import open_file
from unheard.remote.writing import delete, upload

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine sounds of some seconds, and a file that is none."""
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(9):
        soundfile.write(folder / f"{number}.wav", 0.1 * generator.standard_normal(200_000 + 800 * number), 16_000)
    return folder


def left(cache: Path) -> list[Path]:
    """Return what waits for an upload."""
    return [path for path in cache.glob("out/**/*") if path.is_file()]


def command(*words: object) -> int:
    """Run a command; start it again if Ray did not start."""
    return started(lambda: main([str(word) for word in words]))


def same_table(address: str, file: Path) -> None:
    with open_file(address) as stored:
        found, expected = pq.read_table(stored), pq.read_table(file)
    assert found.schema.names == expected.schema.names and found["path"] == expected["path"]
    for ours, theirs in zip(found["embedding"].to_pylist(), expected["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_table_is_written_continued_and_replaced(sounds: Path, store: Store, tmp_path: Path, place: Path) -> None:
    def written(**options: Any) -> BulkReport:
        return started(lambda: embed(sounds, TABLE, processes=2, **options))

    report = written()
    assert report.rows == 9 and str(report.out) == str(Path(TABLE))
    assert store.keys() == ["tables/all.parquet"] and not left(place)
    unheard.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    same_table(TABLE, tmp_path / "one.parquet")
    with pytest.raises(ConfigError, match=rf"^{TABLE} exists; choose another -o"):
        written()
    assert written(resume=True).resumed == 9
    assert written(overwrite=True, layer=-2).rows == 9
    unheard.embed("random-tiny", sounds, tmp_path / "two.parquet", device="cpu", layer=-2)
    same_table(TABLE, tmp_path / "two.parquet")
    assert store.keys() == ["tables/all.parquet"] and not left(place)


def test_the_folders_have_the_bytes_of_one_process_although_a_worker_was_killed(
    sounds: Path, store: Store, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    plain, packed, address = packing.shard_job, tmp_path / "packed", f"s3://{BUCKET}/packed"
    (tmp_path / "killing").mkdir()
    monkeypatch.setattr(
        packing,
        "shard_job",
        lambda folder, shards, key, work, *rest: plain(
            folder, shards, key, KillingWork(work, tmp_path / "killing"), *rest
        ),
    )
    options = ("--store", "wav", "--shard-mb", 1)
    spread = ("--engine", "ray", "--processes", 2)
    assert command("data", "pack", sounds, "-o", address, *options, *spread) == 0
    assert "a worker was lost in task 2 of" in capsys.readouterr().err
    assert (tmp_path / "killing/killed").exists()
    assert main(["data", "pack", str(sounds), "-o", str(packed), *map(str, options)]) == 0
    assert content(address) == local(packed) and not left(place)
    targets = ("data", "targets", packed, "--teacher", "random-tiny", "--pca", 4, "--device", "cpu")
    assert command(*targets, "-o", f"s3://{BUCKET}/targets", "--engine", "ray", "--processes", 1) == 0
    api.targets(packed, "random-tiny", tmp_path / "targets", pca=4, device="cpu")
    assert content(f"s3://{BUCKET}/targets") == local(tmp_path / "targets") and not left(place)
    assert {key.partition("/")[0] for key in store.keys()} == {"packed", "targets"}  # noqa: SIM118 - a method of ours


def test_several_local_processes_pack_at_an_address(sounds: Path, store: Store, tmp_path: Path, place: Path) -> None:
    options, address = ("--store", "wav", "--shard-mb", 1), f"s3://{BUCKET}/packed"
    assert command("data", "pack", sounds, "-o", address, *options, "--processes", 2) == 0
    assert command("data", "pack", sounds, "-o", tmp_path / "packed", *options) == 0
    assert content(address) == local(tmp_path / "packed") and not left(place)


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.jobs.several import started
import unheard
from unheard.jobs import running
running.TASK_ITEMS = 1
started(lambda: unheard.embed("random-tiny", sys.argv[2], sys.argv[3], engine="ray", processes=1, device="cpu"))
"""


def test_a_job_is_continued_on_another_machine_after_its_driver_was_killed(
    sounds: Path, store: Store, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py", root, sounds, TABLE])
    parts, until = "tables/.all.parquet.tasks", time.monotonic() + 300
    while f"{parts}/part-000002.json" not in store.keys():  # noqa: SIM118 - a method of ours
        assert driver.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert "tables/all.parquet" not in store.keys()  # noqa: SIM118 - a method of ours
    monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / "another"))
    given = {"engine": "ray", "processes": 1, "device": "cpu"}
    with pytest.raises(ConfigError, match=rf"^{TABLE} has parts of an interrupted job; continue it with --resume"):
        started(lambda: unheard.embed("random-tiny", sounds, TABLE, **given))
    with pytest.raises(ConfigError, match="--engine ray --resume"):
        unheard.embed("random-tiny", sounds, TABLE, device="cpu")
    report = started(lambda: unheard.embed("random-tiny", sounds, TABLE, resume=True, **given))
    assert report.rows == 9 and report.resumed >= 2
    unheard.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    same_table(TABLE, tmp_path / "one.parquet")
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path / "another")


def test_a_part_of_an_earlier_attempt_is_computed_again(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sounds may have changed."""
    monkeypatch.setattr(access, "TRIES", 1)
    parts = f"s3://{BUCKET}/.all.csv.tasks"
    task, computed = Task(1, 1, ("a.wav",), Path("/of/the/driver/.all.csv.tasks/part-000001")), list[str]()

    def publish(driver: str) -> None:
        for name, text in (("plan.json", "{}"), ("driver", driver)):
            (place.parent / name).write_text(text)
            upload(place.parent / name, f"{parts}/{name}")

    def attempt(text: str, driver: str) -> None:
        with task_at_address(f"s3://{BUCKET}/all.csv", driver, task, ()) as here:
            assert here.out.name == "all.csv" and str(here.part).startswith(str(place))
            if not here.part.with_suffix(".json").exists():
                computed.append(text)
                here.part.with_suffix(".csv").write_text(text)
                write_outcome(here.part, Outcome(1, 1, 0, 1))

    publish("one")
    store.faults.append(Fault("503", "PUT", "part-000001.json", times=10_000))
    with pytest.raises(RemoteError, match=r"part-000001.json: could not be written"):
        attempt("first", "one")
    assert computed == ["first"] and not left(place)
    store.faults.clear()
    stale = AddressedJob(f"s3://{BUCKET}/all.csv", "1 on Ray").tasks.folder  # of a worker that was killed
    stale.mkdir(parents=True)
    (stale / ".driver").write_text("one")
    write_outcome(stale / "part-000001", Outcome(1, 1, 0, 1))
    publish("two")
    with pytest.raises(ConfigError, match=r"^s3://sounds/all.csv: another process has taken over or completed"):
        attempt("late", "one")
    attempt("second", "two")
    assert content(parts)["part-000001.csv"] == b"second" and computed == ["first", "second"] and not left(place)
    for name in ("part-000001.json", "part-000001.csv", "plan.json", "driver"):
        delete(f"{parts}/{name}")
    with pytest.raises(ConfigError, match="another process has taken over or completed"):
        attempt("after the join", "two")
    assert not content_or_none(parts)


def content_or_none(address: str) -> dict[str, bytes]:
    """Return the files below an address; none if it is not there."""
    return content(address) if exists(address) else {}


def embed(sounds: Path, out: str, **options: Any) -> BulkReport:
    return unheard.embed("random-tiny", sounds, out, engine="ray", device="cpu", **options)


def vectors(address: str) -> np.ndarray:
    with open_file(address) as stored:
        return np.array(pq.read_table(stored)["embedding"].to_pylist())


@pytest.mark.usefixtures("inside")
def test_a_job_that_replaces_a_table_is_continued_as_one(sounds: Path, store: Store, place: Path) -> None:
    """The old rows are not kept, whatever upload failed, and neither by tasks of an array."""
    embed(sounds, TABLE)
    old = vectors(TABLE)
    for key in ("plan.json", "part-000001.json", "all.parquet"):
        store.faults.append(Fault("503", "PUT", key, times=10_000))
        with pytest.raises(RemoteError, match="give the same command again, with --resume"):
            embed(sounds, TABLE, overwrite=True, layer=-2)
        store.faults.clear()
        np.testing.assert_array_equal(vectors(TABLE), old)
        if key == "plan.json":
            continue
        if key == "all.parquet":
            report = embed(sounds, TABLE, resume=True, layer=-2)
        else:
            for task in ("1/4", "2/4", "3/4", "4/4"):
                report = unheard.embed("random-tiny", sounds, TABLE, task=task, layer=-2, device="cpu")
        assert report.rows == 9 and np.abs(vectors(TABLE) - old).max() > 0.01
        assert store.keys() == ["tables/all.parquet"] and not left(place)
        embed(sounds, TABLE, overwrite=True)


@pytest.mark.usefixtures("inside")
def test_two_drivers_do_not_mix_their_parts(
    sounds: Path, store: Store, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one begins while the first one works."""
    plain, calls = Session.do, list[Task]()

    def disturbed(session: Session, task: Task) -> Any:
        if not calls:
            calls.append(task)
            with monkeypatch.context() as patch:
                patch.setenv("UNHEARD_CACHE", str(tmp_path / "another"))
                assert embed(sounds, TABLE, layer=-2, overwrite=True).rows == 9
        return plain(session, task)

    monkeypatch.setattr(Session, "do", disturbed)
    with pytest.raises(ConfigError, match=rf"^{TABLE}: another process has taken over or completed this job"):
        embed(sounds, TABLE)
    assert store.keys() == ["tables/all.parquet"] and not left(place)


@pytest.mark.usefixtures("inside")
def test_what_is_left_of_parts_is_not_joined(sounds: Path, store: Store, place: Path, tmp_path: Path) -> None:
    """Outcomes of late workers without a plan, and parts whose deletion failed."""
    store.faults.append(Fault("503", "DELETE", "part-000001.json", times=10_000))
    (tmp_path / "some").mkdir()
    shutil.copy(sounds / "0.wav", tmp_path / "some")
    (tmp_path / "some/1.wav").write_text("no sound")
    with pytest.raises(RemoteError):
        embed(tmp_path / "some", TABLE)
    store.faults.clear()
    assert "tables/.all.parquet.tasks/joined" in store.keys()  # noqa: SIM118 - a method of ours
    assert embed(tmp_path / "some", TABLE, resume=True).rows == 1
    assert store.keys() == ["tables/all.parquet"]
    write_outcome(tmp_path / "part-000001", Outcome(1, 9, 0, 9))
    upload(tmp_path / "part-000001.json", "s3://sounds/tables/.all.parquet.tasks/part-000001.json")
    assert embed(sounds, TABLE, overwrite=True).rows == 9
    upload(tmp_path / "part-000001.json", "s3://sounds/tables/.all.parquet.tasks/part-000001.json")
    assert embed(sounds, TABLE, resume=True).resumed == 9
    assert store.keys() == ["tables/all.parquet"] and not left(place)


@pytest.mark.usefixtures("inside")
def test_a_job_that_reads_nothing_leaves_nothing(sounds: Path, store: Store, place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.wav").write_text("no sound")
    with pytest.raises(DataError, match="none of the 1 files could be read"):
        embed(tmp_path / "bad", TABLE)
    assert not store.keys() and not left(place)
    store.faults.append(Fault("503", "PUT", "all.parquet", times=10_000))
    with pytest.raises(RemoteError):
        embed(sounds, TABLE)
    store.faults.clear()
    keys = store.keys()
    with pytest.raises(CheckpointError):
        unheard.embed("random-tinyy", sounds, TABLE, engine="ray", overwrite=True)
    assert store.keys() == keys and embed(sounds, TABLE, resume=True).resumed == 9


def test_addresses_that_cannot_work_are_refused(sounds: Path, memory: str) -> None:
    with pytest.raises(ConfigError, match=r"t.csv is in the memory of one process"):
        embed(sounds, f"{memory}/t.csv")
    with pytest.raises(ConfigError, match=r"^s3://sounds is a bucket; give a name in it, such as s3://sounds/NAME"):
        api.targets(sounds, "random-tiny", "s3://sounds", engine="ray")
