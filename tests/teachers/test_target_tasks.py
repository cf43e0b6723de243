"""Targets that are computed in tasks: the files of one process, whatever is killed in between."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.jobs.killing import KillingWork
from tests.jobs.several import ENGINES, LOST, started
from tests.teachers.local_teacher import LocalTeacher, use, write_sounds

from unheard import api
from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.errors import ConfigError, JobWarning
from unheard.jobs.engines import Spread
from unheard.jobs.running import TaskReport
from unheard.jobs.session import Do
from unheard.teachers import storing, target_tasks
from unheard.teachers.stored import StoredTargets
from unheard.teachers.storing import TargetsConfig, store_targets
from unheard.teachers.target_tasks import TargetWork, estimate_targets, store_in_tasks


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    sounds = open_corpus(write_sounds(tmp_path_factory.mktemp("sounds"), (2.0,) * 9))
    pack(sounds, PackConfig(MSM_MAE_16K, "int16"), folder)
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "SHARD_SECONDS", 5.0)  # three clips
    use(monkeypatch, LocalTeacher(), LocalTeacher(seed=1))


def same(one: Path, two: Path) -> None:
    """Check that two folders have the same files with the same bytes, and that nothing else stays."""
    content = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in (one, two)]
    assert content[0] == content[1]
    assert not list(two.parent.glob(f".{two.name}*"))


@pytest.mark.parametrize("pca", [None, 2])
def test_the_tasks_of_an_array_write_the_files_of_one_process(packed: Path, tmp_path: Path, pca: int | None) -> None:
    config, out = TargetsConfig("0", pca=pca), tmp_path / "many"
    reports = [store_in_tasks(packed, config, out, "cpu", Spread(task=f"{each}/2")) for each in (2, 1)]
    assert isinstance(reports[0], TaskReport) and reports[0].waits_for == "the tasks 1 of 2"
    assert isinstance(reports[1], StoredTargets)
    one = store_targets(packed, config, tmp_path / "one")
    assert reports[1].header == one.header
    same(tmp_path / "one", out)
    again = store_in_tasks(packed, config, out, "cpu", Spread(processes=2))
    assert isinstance(again, StoredTargets) and again.fingerprint == reports[1].fingerprint


def test_finished_shards_are_not_computed_again(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, teacher = tmp_path / "many", LocalTeacher()
    use(monkeypatch, teacher)
    store_in_tasks(packed, TargetsConfig("0"), out, "cpu", Spread(task="2/3"))
    before = teacher.calls
    store_targets(packed, TargetsConfig("0"), out)
    assert (before, teacher.calls) == (3, 9)
    store_targets(packed, TargetsConfig("0"), tmp_path / "one")
    same(tmp_path / "one", out)


def test_what_does_not_fit_is_refused(packed: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "many", TargetsConfig("0")
    with pytest.raises(ConfigError, match=r"there are 4 processes for 3 shards of .* minutes; give --processes 3"):
        store_in_tasks(packed, config, out, "cpu", Spread(processes=4))
    with pytest.raises(ConfigError, match="is not packed, and several processes would each decode it; pack it first"):
        store_in_tasks(tmp_path, config, out, "cpu", Spread(processes=2))
    with pytest.raises(ConfigError, match="worker 1 has another teacher or corpus than the first process"):
        TargetWork(packed, config, "cpu", "another").open(1, 1)
    store_in_tasks(packed, config, out, "cpu", Spread(task="1/3"))
    with pytest.raises(storing.DataError, match="holds targets of another corpus or teacher"):
        store_in_tasks(packed, TargetsConfig("1"), out, "cpu", Spread(task="1/3"))


def test_a_plan_measures_a_sample_and_writes_nothing(packed: Path, tmp_path: Path) -> None:
    found = estimate_targets(packed, TargetsConfig("0", pca=1), "cpu", Spread(processes=2))
    assert (found.items, found.measured, found.tasks, found.processes) == (9, 9, 3, 2)
    assert found.audio_hours == pytest.approx(18 / 3600) and found.hours > 0
    written = store_targets(packed, TargetsConfig("0", pca=1), tmp_path / "one")
    assert found.megabytes == pytest.approx(sum(shard.nbytes for shard in written.shards) / 1e6, rel=0.01)


def test_the_command_reports_a_task_and_the_targets(packed: Path, tmp_path: Path, capsys) -> None:
    given = ["data", "targets", str(packed), "--teacher", "0", "-o", str(tmp_path / "many"), "--json"]
    assert main([*given, "--plan", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "targets" and not list(tmp_path.iterdir())
    assert main([*given, "--task", "1/2", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["waits_for"] == "the tasks 2 of 2"
    assert main([*given, "--task", "2/2", "--resume", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 9


@dataclass(frozen=True)
class LocalWork:
    """`TargetWork` in another process, with the teacher and the shards of these tests."""

    work: TargetWork

    @property
    def advice(self) -> str:
        return self.work.advice

    @property
    def shared(self) -> tuple[str, ...]:
        return self.work.shared

    def open(self, worker: int, threads: int) -> Do:
        storing.SHARD_SECONDS = 5.0
        target_tasks.load_teacher = lambda name, **more: LocalTeacher()  # type: ignore[assignment]
        return self.work.open(worker, threads)


def kill(monkeypatch: pytest.MonkeyPatch, place: Path, parent: bool = False) -> None:
    plain = target_tasks.shard_job
    monkeypatch.setattr(
        target_tasks,
        "shard_job",
        lambda folder, shards, key, work, *rest: plain(
            folder, shards, key, KillingWork(LocalWork(work), place, parent=parent), *rest
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_of_which_one_is_killed(packed: Path, tmp_path: Path, monkeypatch, engine: str) -> None:
    (tmp_path / "place").mkdir()
    kill(monkeypatch, tmp_path / "place")
    more = {"pca": 2, "engine": engine, "processes": 2, "device": "cpu"}
    with pytest.warns(JobWarning, match=rf"({LOST}).*use fewer --processes"):
        started(lambda: api.targets(packed, "0", tmp_path / "many", **more))
    store_targets(packed, TargetsConfig("0", pca=2), tmp_path / "one")
    same(tmp_path / "one", tmp_path / "many")


DRIVER = """
import sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[3])
from tests.teachers.local_teacher import LocalTeacher, use
from tests.teachers.test_target_tasks import kill
from unheard import api
from unheard.teachers import storing
if __name__ == "__main__":
    storing.SHARD_SECONDS, out, patch = 5.0, Path(sys.argv[2]), pytest.MonkeyPatch()
    use(patch, LocalTeacher())
    kill(patch, out.parent, parent=True)
    api.targets(sys.argv[1], "0", out, processes=2, device="cpu")
"""


@pytest.mark.slow
def test_a_killed_driver_loses_no_shard(packed: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "out").mkdir()
    out, root = tmp_path / "out/many", str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, tmp_path / "driver.py", packed, out, root]).returncode == -9
    assert list(out.glob("shard-*.bin")) and not (out / "targets.json").exists()
    kill(monkeypatch, tmp_path / "out")  # it is recorded as done
    api.targets(packed, "0", out, processes=2, device="cpu")
    store_targets(packed, TargetsConfig("0"), tmp_path / "one")
    same(tmp_path / "one", out)
