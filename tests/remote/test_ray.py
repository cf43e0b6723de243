"""Jobs on Ray with an output at an address: the output of one process, also after a worker or the driver was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

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
from unheard.errors import ConfigError, RemoteError
from unheard.jobs.addressed_ray import task_at_address
from unheard.jobs.plan import Outcome, Task, write_outcome
from unheard.remote import access
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
    def embed(**options: object) -> unheard.embedding.table_jobs.report.BulkReport:
        few = {"engine": "ray", "processes": 2, "device": "cpu", **options}
        return started(lambda: unheard.embed("random-tiny", sounds, TABLE, **few))

    report = embed()
    assert report.rows == 9 and str(report.out) == str(Path(TABLE))
    assert store.keys() == ["tables/all.parquet"] and not left(place)
    unheard.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    same_table(TABLE, tmp_path / "one.parquet")
    with pytest.raises(ConfigError, match=rf"^{TABLE} exists; choose another -o"):
        embed()
    assert embed(resume=True).resumed == 9
    assert embed(overwrite=True, layer=-2).rows == 9
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
    with pytest.raises(ConfigError, match="--engine ray and --resume"):
        unheard.embed("random-tiny", sounds, TABLE, device="cpu")
    report = started(lambda: unheard.embed("random-tiny", sounds, TABLE, resume=True, **given))
    assert report.rows == 9 and report.resumed >= 2
    unheard.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    same_table(TABLE, tmp_path / "one.parquet")
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path / "another")


def test_a_part_whose_upload_failed_is_uploaded_by_the_next_attempt(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of another plan is computed again."""
    monkeypatch.setattr(access, "TRIES", 1)
    parts = f"s3://{BUCKET}/.all.csv.tasks"
    task, computed = Task(1, 1, ("a.wav",), Path("/of/the/driver/.all.csv.tasks/part-000001")), list[str]()

    def attempt(text: str, plan: bytes) -> None:
        (place.parent / "plan.json").write_bytes(plan)
        upload(place.parent / "plan.json", f"{parts}/plan.json")
        with task_at_address(f"s3://{BUCKET}/all.csv", task, ()) as here:
            assert here.out.name == "all.csv" and str(here.part).startswith(str(place))
            if not here.part.with_suffix(".json").exists():
                computed.append(text)
                here.part.with_suffix(".csv").write_text(text)
                write_outcome(here.part, Outcome(1, 1, 0, 1))

    store.faults.append(Fault("503", "PUT", "part-000001.json", times=10_000))
    with pytest.raises(RemoteError, match="part-000001.json: could not be written"):
        attempt("first", b"{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.faults.clear()
        attempt("second", b"{}")
    assert content(parts)["part-000001.csv"] == b"first" and computed == ["first"] and not left(place)
    store.faults.append(Fault("503", "PUT", "part-000001.csv", times=10_000))
    delete(f"{parts}/part-000001.json")
    with pytest.raises(RemoteError):
        attempt("third", b"{}")
    store.faults.clear()
    attempt("fourth", b'{"another": 1}')
    assert content(parts)["part-000001.csv"] == b"fourth" and computed == ["first", "third", "fourth"]
