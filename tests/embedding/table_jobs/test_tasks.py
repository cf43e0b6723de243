"""Tables that are written in tasks: equal to that of one process, whatever is killed in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from copy import copy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tests.embedding.table_jobs.killing import KillingWork

import unheard
from unheard import api
from unheard.cli import main
from unheard.embedding.job import Options
from unheard.embedding.loading import load
from unheard.embedding.table_files import read_identity
from unheard.embedding.table_jobs import crashes, joining
from unheard.embedding.table_jobs.run import TableJob
from unheard.embedding.table_jobs.work import EmbedWork
from unheard.embedding.tables import TableWriter
from unheard.errors import ConfigError, DataError, JobWarning


@pytest.fixture(scope="module")
def model():
    return load("random-tiny", "cpu")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Seven sounds and an unreadable file."""
    place = tmp_path_factory.mktemp("sounds")
    for index in range(7):
        noise = np.random.default_rng(index).standard_normal(4000 * (index + 1)) * 0.1
        soundfile.write(place / f"{index}.wav", noise, 16000)
    (place / "3-broken.mp3").write_text("no sound")
    return place


@pytest.fixture(scope="module")
def one(model, sounds, tmp_path_factory):
    """Return the table that one process writes."""
    return api.embed(model, sounds, tmp_path_factory.mktemp("one") / "one.parquet").out


def array(model, sounds, out, tasks, **options):
    return [api.embed(model, sounds, out, task=f"{each}/{tasks}", **options) for each in range(1, tasks + 1)]


def same(one: Path, two: Path) -> None:
    """Check that two tables have the same rows, in the same order, and the same identity."""
    assert read_identity(one) == read_identity(two)
    first, second = pq.read_table(one), pq.read_table(two)
    assert first.drop_columns("embedding").equals(second.drop_columns("embedding"))
    vectors = [np.array(table["embedding"].to_pylist()) for table in (first, second)]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    assert not list(two.parent.glob(f".{two.name}*"))


@pytest.mark.parametrize("options", [{"frames": True}, {"window": 0.5}])
def test_the_tasks_of_an_array_write_the_table_of_one_process(model, sounds, tmp_path, options):
    whole = api.embed(model, sounds, tmp_path / "one.parquet", **options)
    reports = array(model, sounds, tmp_path / "many.parquet", 3, **options)
    same(tmp_path / "one.parquet", tmp_path / "many.parquet")
    assert [bool(report.waits_for) for report in reports] == [True, True, False]
    assert reports[0].waits_for == "the tasks 2, 3 of 3"
    assert reports[2].rows == whole.rows
    assert reports[2].skipped == whole.skipped


def test_segments_in_tasks_keep_the_order_of_their_table(model, sounds, tmp_path):
    rows = [f"{sounds}/{index % 7}.wav,{0.1 * (index % 2)},{0.2 + 0.01 * index}" for index in range(12)]
    (tmp_path / "parts.csv").write_text("\n".join(["path,start,end", *rows]))
    api.embed(model, None, tmp_path / "one.parquet", segments=tmp_path / "parts.csv")
    for task in ("4/4", "2/4", "1/4", "3/4"):
        api.embed(model, None, tmp_path / "many.parquet", segments=tmp_path / "parts.csv", task=task)
    same(tmp_path / "one.parquet", tmp_path / "many.parquet")


def test_other_formats_are_joined_from_the_same_parts(model, sounds, one, tmp_path):
    array(model, sounds, tmp_path / "many.npz", 3)
    whole = pq.read_table(one)
    with np.load(tmp_path / "many.npz") as many:
        assert list(many["path"]) == whole["path"].to_pylist()
        np.testing.assert_allclose(many["embedding"], whole["embedding"].to_pylist(), atol=1e-5)


def test_a_finished_table_takes_new_files_in_tasks(model, sounds, tmp_path):
    folder, out = tmp_path / "grows", tmp_path / "many.parquet"
    shutil.copytree(sounds, folder)
    array(model, folder, out, 2)
    with pytest.raises(ConfigError, match="exists; continue it with --resume"):
        api.embed(model, folder, out, task="1/2")
    report = api.embed(model, folder / "0.wav", out, task="1/1", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (7, 0, 1)
    shutil.copy(folder / "0.wav", folder / "9.wav")
    (folder / "3-broken.mp3").unlink()
    report = api.embed(model, folder, out, task="1/1", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (8, 1, 7)
    assert Path(pq.read_table(out)["path"][7].as_py()).name == "9.wav"


def test_a_kill_between_the_join_and_the_end_doubles_no_row(model, sounds, one, tmp_path, monkeypatch):
    out = tmp_path / "many.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(joining.Plan, "discard", lambda plan: None)
        array(model, sounds, out, 2)
    assert (tmp_path / ".many.parquet.tasks").exists()
    report = api.embed(model, sorted(sounds.glob("*.wav")), out, task="1/2", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (7, 0, 7)
    same(one, out)


def test_files_that_were_read_first_come_at_their_place(model, sounds, one, tmp_path, monkeypatch):
    """Files on which a worker was lost are read first; the joined table has the order of the sounds."""
    monkeypatch.setattr(crashes, "decodes", lambda paths, rate: True)  # in another process, which takes long to start
    out, files = tmp_path / "many.parquet", [str(sounds / f"{index}.wav") for index in range(7)]
    api.embed(model, files, tmp_path / "one.parquet")
    api.embed(model, files, out, task="1/2")
    part = TableWriter(
        tmp_path / ".many.parquet.tasks/part-000002.parquet", read_identity(tmp_path / "one.parquet"), 960
    )
    part.__enter__()
    part.begin(files[5])
    part._lock.__exit__(None, None, None)  # the process is killed while it reads this file
    api.embed(model, files, out, task="2/2")
    same(one, out)


REFUSED = [
    ({"task": "1/2", "layer": -2}, r"another identity \(--layer is None, now -2\)"),
    ({"task": "1/3"}, "has parts of a job of 2 tasks; give --task 1/2"),
    ({"task": "1/2", "overwrite": True}, "leave --overwrite out"),
    ({"task": "1/9"}, "there are 9 tasks for 8 files; give --task I/8 or fewer tasks"),
    ({"processes": 9}, "there are 9 processes for 8 files; give --processes 8 or fewer"),
    ({"processes": 2}, "has parts of an interrupted job; continue it with --resume"),
    ({}, "has parts of an interrupted job; continue it with --resume"),
]


def test_what_does_not_fit_the_interrupted_job_is_refused(model, sounds, tmp_path):
    out = tmp_path / "many.parquet"
    api.embed(model, sounds, out, task="2/2")
    for options, message in REFUSED:
        with pytest.raises(ConfigError, match=message):
            api.embed(model, sounds, out, **options)
    with pytest.raises(ConfigError, match="has parts of a job of 8 items, and the 2 items now are not the same"):
        api.embed(model, [sounds / "0.wav", sounds / "1.wav"], out, task="2/2")
    assert api.embed(model, sounds, out, task="1/2").rows == 7


def test_overwrite_deletes_the_parts_of_tasks(model, sounds, tmp_path):
    out = tmp_path / "many.parquet"
    api.embed(model, sounds / "0.wav", out, task="1/1")
    out.unlink()
    api.embed(model, [sounds / "0.wav", sounds / "1.wav"], out, task="1/2")
    assert api.embed(model, sounds / "0.wav", out, overwrite=True).rows == 1
    assert not (tmp_path / ".many.parquet.tasks").exists()


def test_an_interrupted_replacement_in_tasks_keeps_no_row_of_the_old_table(model, sounds, tmp_path, monkeypatch):
    out, files = tmp_path / "many.parquet", [sounds / f"{index}.wav" for index in range(3)]
    api.embed(model, files[:2], out)

    def stop(job, spread, track):
        raise KeyboardInterrupt

    monkeypatch.setattr("unheard.embedding.table_jobs.run.do_tasks", stop)
    with pytest.raises(KeyboardInterrupt):
        api.embed(model, files[1:], out, processes=2, overwrite=True)
    report = api.embed(model, files[1:], out, task="1/1", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (2, 2, 0)
    assert [Path(path).name for path in pq.read_table(out)["path"].to_pylist()] == ["1.wav", "2.wav"]
    assert not list(tmp_path.glob(".many*"))


def test_parts_of_one_process_are_not_lost(model, sounds, tmp_path):
    out = tmp_path / "emb.parquet"
    with TableWriter(out, {}, 2) as table:
        table.add("a.wav", np.zeros(2), seconds=1.0)  # and the job ends before it is finished
    with pytest.raises(ConfigError, match="has parts of a job of one process; continue it without --engine"):
        api.embed(model, sounds, out, processes=2, resume=True)


def test_sounds_that_cannot_be_read_are_named_by_every_task(model, tmp_path):
    for name in ("a.mp3", "b.mp3"):
        (tmp_path / name).write_text("no sound")
    out = tmp_path / "emb.parquet"
    assert len(api.embed(model, tmp_path, out, task="1/2").skipped) == 1
    with pytest.raises(DataError, match="none of the 2 files could be read; the first one: .*a.mp3"):
        api.embed(model, tmp_path, out, task="2/2")
    assert not out.exists()


def test_a_model_of_python_and_the_standard_input_stay_in_one_process(model, sounds, tmp_path):
    built = copy(model)
    built.origin = ""
    with pytest.raises(ConfigError, match="built in Python exists in this process only; save it"):
        api.embed(built, sounds, tmp_path / "emb.npz", processes=2)
    with pytest.raises(ConfigError, match="standard input is read by one process"):
        api.embed(model, "-", tmp_path / "emb.npz", processes=2)


def test_a_worker_with_another_model_is_refused(model, sounds):
    work = EmbedWork("random-tiny", "cpu", "float32", 0, 4, Options(frames=False), False, {"model": "another"})
    with pytest.raises(ConfigError, match="the table of worker 3 has another identity"):
        work.open(3, 1)


def test_a_plan_measures_a_sample_and_writes_nothing(model, sounds, tmp_path, capsys):
    found = unheard.plan_embed(model, sounds, tmp_path / "emb.npz", processes=2)
    assert (found.items, found.tasks, found.processes, found.measured) == (8, 8, 2, 8)
    assert found.audio_hours == pytest.approx(7 / 3600)
    assert found.hours > 0 and found.items_per_second > 0
    assert found.megabytes > 7 * 960 * 4 / 1e6
    assert main(["embed", "random-tiny", str(sounds), "-o", str(tmp_path / "x.csv"), "--plan", "--task", "1/4"]) == 0
    assert "8 sounds, 0.00194 hours of audio; 4 tasks" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_another_process_writes_the_same_table(model, sounds, one, tmp_path):
    report = api.embed(model, sounds, tmp_path / "many.parquet", processes=1)
    assert (report.rows, report.embedded, len(report.skipped)) == (7, 7, 1)
    same(one, tmp_path / "many.parquet")


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed(model, sounds, one, tmp_path, monkeypatch):
    out, plain = tmp_path / "many.parquet", TableJob.work
    monkeypatch.setattr(TableJob, "work", lambda job: KillingWork(plain(job), ("4.wav",), tmp_path))
    with pytest.warns(JobWarning, match=r"SIGKILL.*use a smaller --batch-size or fewer --processes"):
        report = api.embed(model, sounds, out, processes=2)
    assert (tmp_path / "killed-4.wav").exists()
    assert (report.rows, report.embedded + report.resumed) == (7, 7)
    assert [Path(path).name for path, _ in report.skipped] == ["3-broken.mp3"]
    same(one, out)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.embedding.table_jobs.killing import KillingWork
from unheard import api
from unheard.embedding.table_jobs.run import TableJob
if __name__ == "__main__":
    out, plain = Path(sys.argv[2]), TableJob.work
    TableJob.work = lambda job: KillingWork(plain(job), ("4.wav",), out.parent, parent=True)
    api.embed("random-tiny", sys.argv[1], out, processes=2, device="cpu")
"""


@pytest.mark.slow
def test_a_killed_driver_loses_no_part(sounds, one, tmp_path, capsys):
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "out").mkdir()
    out, root = tmp_path / "out/many.parquet", Path(__file__).parents[3]
    command = [sys.executable, tmp_path / "driver.py", sounds, out, root]
    assert subprocess.run(command, capture_output=True).returncode == -9
    assert not out.exists()
    given = ["embed", "random-tiny", str(sounds), "-o", str(out), "--device", "cpu", "--processes", "2"]
    assert main(given) == 2
    assert "has parts of an interrupted job; continue it with --resume" in capsys.readouterr().err
    assert main([*given, "--resume", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == report["embedded"] + report["resumed"] == 7
    assert report["resumed"] > 0
    same(one, out)
