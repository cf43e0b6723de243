"""A corpus that is packed in tasks has the bytes of the one that a single process packs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.jobs.killing import KillingWork

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.packing import job as packing
from unheard.data.packing.job import PackJob, estimate_pack, pack_in_tasks
from unheard.data.store import Store
from unheard.errors import ConfigError, DataError, JobWarning
from unheard.jobs.engines import Spread
from unheard.jobs.running import TaskReport

SHARD = 60_000
"""Bytes of a shard: two to four clips."""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds, one of which ends in the middle of its header, and one that is no sound behind a good header."""
    place = tmp_path_factory.mktemp("sounds")
    for index in range(12):
        noise = np.random.default_rng(index).standard_normal(8000 + 4000 * (index % 3)) * 0.1
        soundfile.write(place / f"{index:02}.wav", noise, 16000)
    (place / "03-broken.mp3").write_text("no sound")
    soundfile.write(place / "07-damaged.flac", np.random.default_rng(0).standard_normal(40000) * 0.1, 16000)
    damaged = bytearray((place / "07-damaged.flac").read_bytes())
    damaged[200:] = b"\0" * (len(damaged) - 200)
    (place / "07-damaged.flac").write_bytes(damaged)
    return place


def job_of(sounds: Path, out: Path, dtype: str = "float16", shard: int = SHARD) -> PackJob:
    return PackJob(open_corpus(sounds), PackConfig(MSM_MAE_16K, dtype), out, 1, shard)  # type: ignore[arg-type]


def one(sounds: Path, out: Path, dtype: str = "float16") -> Path:
    made = job_of(sounds, out, dtype)
    pack(made.corpus, made.config, out, 1, shard_bytes=SHARD)
    return out


def same(one: Path, two: Path) -> None:
    """Check that two folders have the same files with the same bytes, and that nothing else stays."""
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in two.iterdir()
    }
    assert not list(two.parent.glob(f".{two.name}*"))


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_the_tasks_of_an_array_write_the_bytes_of_one_process(sounds: Path, tmp_path: Path, dtype: str) -> None:
    made = job_of(sounds, tmp_path / "many", dtype)
    reports = [pack_in_tasks(made, Spread(task=f"{each}/3")) for each in (2, 1, 3)]
    assert isinstance(reports[0], TaskReport) and isinstance(reports[1], TaskReport)
    assert [report.waits_for for report in reports[:2]] == ["the tasks 1, 3 of 3", "the tasks 3 of 3"]  # type: ignore[union-attr]
    assert isinstance(reports[2], Store)
    assert {skipped.path for skipped in reports[2].skipped} == {"03-broken.mp3", "07-damaged.flac"}
    same(one(sounds, tmp_path / "one", dtype), tmp_path / "many")
    again = pack_in_tasks(made, Spread(task="2/3"))
    assert isinstance(again, Store) and len(again) == 12


def test_a_bad_file_is_named_by_the_task_that_reads_it(sounds: Path, tmp_path: Path) -> None:
    report = pack_in_tasks(job_of(sounds, tmp_path / "many"), Spread(task="2/2"))
    assert isinstance(report, TaskReport)
    ((path, reason),) = report.outcome.skipped
    assert path == "07-damaged.flac" and "declares 40000 samples" in reason


def test_finished_shards_are_not_packed_again(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of an interrupted task stay, and a single process takes them over, too."""
    out, plain = tmp_path / "many", packing.pack_shards
    made = job_of(sounds, out)

    def interrupted(*given):
        shards = plain(*given)
        yield next(shards)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(packing, "pack_shards", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack_in_tasks(made, Spread(task="2/2"))
    written = (out / "shard-00001.bin").stat().st_mtime_ns
    report = pack_in_tasks(made, Spread(task="2/2"))
    assert isinstance(report, TaskReport) and report.outcome.resumed > 0 and report.outcome.done > 0
    assert (out / "shard-00001.bin").stat().st_mtime_ns == written
    pack(made.corpus, made.config, out, 1, shard_bytes=SHARD)
    assert (out / "shard-00001.bin").stat().st_mtime_ns == written
    same(one(sounds, tmp_path / "one"), out)


def test_a_kill_between_the_join_and_the_end_leaves_nothing(sounds: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "many"
    with monkeypatch.context() as patched:
        patched.setattr("unheard.data.shard_writing.shutil.rmtree", lambda *given, **more: None)
        pack_in_tasks(job_of(sounds, out), Spread(task="1/1"))
    assert (tmp_path / ".many.tasks").exists()
    pack_in_tasks(job_of(sounds, out), Spread(task="1/1"))
    same(one(sounds, tmp_path / "one"), out)


def test_what_does_not_fit_the_interrupted_job_is_refused(sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    pack_in_tasks(job_of(sounds, out), Spread(task="1/2"))
    with pytest.raises(ConfigError, match=r"\.many\.tasks has parts of another job; choose another -o, or delete this"):
        pack_in_tasks(job_of(sounds, out, "uint8"), Spread(task="1/2"))
    with pytest.raises(ConfigError, match="has parts of a job of 2 tasks; give --task 1/2"):
        pack_in_tasks(job_of(sounds, out), Spread(task="1/3"))
    with pytest.raises(ConfigError, match=r"there are 99 processes for \d+ shards of .* MB \(--shard-mb sets"):
        pack_in_tasks(job_of(sounds, out), Spread(processes=99))
    (out / "shard-00000.json").unlink()
    with pytest.raises(DataError, match="the record of shard 0 is missing or damaged.*run the command again"):
        pack_in_tasks(job_of(sounds, out), Spread(task="2/2"))


def test_shards_of_an_interrupted_job_with_more_of_them_are_deleted(sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    pack_in_tasks(job_of(sounds, out, shard=1), Spread(task="2/2"))
    made = job_of(sounds, out)
    pack(made.corpus, made.config, out, 1, shard_bytes=SHARD)
    same(one(sounds, tmp_path / "one"), out)


def test_a_plan_measures_a_sample_and_writes_nothing(sounds: Path, tmp_path: Path, capsys) -> None:
    made = job_of(sounds, tmp_path / "many")
    found = estimate_pack(made, Spread(processes=2))
    assert (found.items, found.measured, found.processes, found.copies) == (13, 13, 2, False)
    assert found.megabytes == pytest.approx(made.corpus.hours * 3600 * 16000 / 1e6)
    assert found.audio_hours == made.corpus.hours and found.hours > 0
    assert main(["data", "pack", str(sounds), "-o", str(tmp_path / "x"), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "13 sounds, " in printed and "shards: " in printed and "until they are joined" not in printed
    assert "at this rate, of such sounds: 2 million need" in printed
    assert not list(tmp_path.iterdir())


def test_the_command_reports_a_task_and_the_corpus(sounds: Path, tmp_path: Path, capsys) -> None:
    given = ["data", "pack", str(sounds), "-o", str(tmp_path / "many"), "--json"]
    assert main([*given, "--task", "1/1"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 12
    assert main([*given, "--processes", "2"]) == 0  # it is complete
    assert main(["data", "pack", str(sounds), "-o", str(tmp_path / "other"), "--processes", "2"]) == 2
    assert "there are 2 processes for 1 shards of 256 MB" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed(sounds: Path, tmp_path: Path, monkeypatch) -> None:
    plain, made = packing.shard_job, job_of(sounds, tmp_path / "many")
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(
        packing,
        "shard_job",
        lambda folder, shards, key, work, *rest: plain(
            folder, shards, key, KillingWork(work, tmp_path / "place"), *rest
        ),
    )
    with pytest.warns(JobWarning, match=r"SIGKILL.*use fewer --workers or --processes"):
        store = pack_in_tasks(made, Spread(processes=2))
    assert isinstance(store, Store) and len(store) == 12
    same(one(sounds, tmp_path / "one"), tmp_path / "many")


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.jobs.killing import KillingWork
from tests.data.packing.test_tasks import job_of
from unheard.data.packing import job
from unheard.jobs.engines import Spread
if __name__ == "__main__":
    out, plain = Path(sys.argv[2]), job.shard_job
    job.shard_job = lambda folder, shards, key, work, *rest: plain(
        folder, shards, key, KillingWork(work, out.parent, parent=True), *rest
    )
    job.pack_in_tasks(job_of(Path(sys.argv[1]), out), Spread(processes=2))
"""


@pytest.mark.slow
def test_a_killed_driver_loses_no_shard(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "out").mkdir()
    out, root = tmp_path / "out/many", Path(__file__).parents[3]
    command = [sys.executable, tmp_path / "driver.py", sounds, out, root]
    assert subprocess.run(command, capture_output=True).returncode == -9
    assert not (out / "dataset.json").exists()
    written = {file: file.stat().st_mtime_ns for file in out.glob("shard-*.bin")}
    assert written
    pack_in_tasks(job_of(sounds, out), Spread(processes=2))
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
    same(one(sounds, tmp_path / "one"), out)


@pytest.mark.parametrize("words", [("--workers", "0"), ("--shard-mb", "0")])
def test_numbers_that_are_too_small_are_refused(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert main(["data", "pack", str(sounds), "-o", str(tmp_path / "packed"), *words]) == 2
    assert f"{words[0]} must be at least 1; got 0" in capsys.readouterr().err
    assert main(["data", "pack", str(sounds), "-o", str(tmp_path / "packed"), "--workers", "auto"]) == 0
