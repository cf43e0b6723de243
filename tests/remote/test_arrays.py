"""Tasks of an array on several machines, with an output at an address: the output of one process, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tests.remote.store import BUCKET, Fault, Store

import unheard
from unheard import api
from unheard.cli import main
from unheard.embedding.table_jobs.report import BulkReport
from unheard.errors import ConfigError, JobWarning, RemoteError
from unheard.jobs import addressed_arrays
from unheard.jobs.addressed_job import AddressedJob
from unheard.jobs.running import TaskReport
from unheard.remote import access
from unheard.remote.listing import exists, files_below
from unheard.remote.reading import open_file

TABLE = "s3://sounds/tables/all.parquet"
Machine = Callable[[int], None]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sounds."""
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", 0.1 * generator.standard_normal(16_000 + 800 * number), 16_000)
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A function that continues on another machine: with another cache."""
    return lambda number: monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / f"machine-{number}"))


def content(address: str) -> dict[str, bytes]:
    """Return the bytes of all files below an address."""
    found = {}
    for name in files_below(address):
        with open_file(f"{address}/{name}") as file:
            found[name] = file.read()
    return found


def local(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left(tmp_path: Path) -> list[Path]:
    """Return what waits for an upload on all machines."""
    return [path for path in tmp_path.glob("machine-*/out/**/*") if path.is_file()]


def embed(sounds: Path, task: str, **options: bool) -> BulkReport:
    """Do one task of the table at the address."""
    return unheard.embed("random-tiny", sounds, TABLE, task=task, device="cpu", **options)


def test_a_table_is_that_of_one_process(sounds: Path, store: Store, tmp_path: Path, machine: Machine) -> None:
    reports = []
    for number in (2, 3, 1):
        machine(number)
        reports.append(embed(sounds, f"{number}/3"))
    assert [each.waits_for for each in reports] == ["the tasks 1, 3 of 3", "the tasks 1 of 3", ""]
    assert reports[2].rows == 6 and str(reports[2].out) == str(Path(TABLE))
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path)
    unheard.embed("random-tiny", sounds, tmp_path / "one.parquet", device="cpu")
    assert main(["data", "verify", TABLE]) == 0
    with open_file(TABLE) as file:
        found, expected = pq.read_table(file), pq.read_table(tmp_path / "one.parquet")
    assert found.schema.names == expected.schema.names and found["path"] == expected["path"]
    for ours, theirs in zip(found["embedding"].to_pylist(), expected["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with pytest.raises(ConfigError, match=rf"^{TABLE} exists; continue it with --resume"):
        embed(sounds, "1/3")
    assert embed(sounds, "1/3", resume=True).resumed == 6
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path)


def test_a_task_whose_upload_failed_is_continued(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "TRIES", 1)
    for number, key in ((1, "part-000001.json"), (2, "all.parquet")):
        machine(number)
        store.faults.append(Fault("503", "PUT", key, times=10_000))
        with pytest.raises(RemoteError, match=r"could not be written .*; what is computed is kept in .*machine"):
            embed(sounds, f"{number}/2")
        store.faults.clear()
        assert "tables/all.parquet" not in store.keys() and left(tmp_path)  # noqa: SIM118 - a method of ours
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert embed(sounds, f"{number}/2").rows == 3 * number
        texts = [str(each.message) for each in caught if issubclass(each.category, JobWarning)]
        assert ["used what an earlier attempt computed" in text for text in texts] == [True] * (number == 1)
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path)


def test_a_late_copy_of_a_task_leaves_nothing_at_the_joined_output(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine
) -> None:
    """While it computes, its copy on another machine ends, and joins the parts."""
    calls: list[Path] = []

    def write(place: Path) -> BulkReport:
        report = unheard.embed("random-tiny", sounds, place, task="2/2", device="cpu")
        if not calls:
            calls.append(place)
            machine(3)
            assert embed(sounds, "2/2").rows == 6
            machine(2)
        return report

    machine(1)
    embed(sounds, "1/2")
    machine(2)
    with pytest.warns(JobWarning, match="another machine has joined the parts; nothing was uploaded"):
        addressed_arrays.array_task_at(TABLE, "2/2", "embed", write)
    assert calls and store.keys() == ["tables/all.parquet"] and not left(tmp_path)


def test_parts_that_another_machine_joins_while_they_are_copied_are_joined_once(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task is missing, because the machine that joined the parts was killed; two machines try again."""
    upload, copy, calls = addressed_arrays._upload_results, addressed_arrays._copy, list[str]()

    def killed(*given: object) -> object:
        patch.setattr(addressed_arrays, "_upload_results", upload)
        machine(1)
        embed(sounds, "1/2")
        machine(2)
        upload(*given)
        raise KeyboardInterrupt

    machine(2)
    with monkeypatch.context() as patch:
        patch.setattr(addressed_arrays, "_upload_results", killed)
        with pytest.raises(KeyboardInterrupt):
            embed(sounds, "2/2")
    assert "tables/all.parquet" not in store.keys()  # noqa: SIM118 - a method of ours

    def overtaken(*given: object) -> object:
        if not calls:
            calls.append("copied")
            machine(4)
            assert embed(sounds, "2/2").rows == 6
            machine(3)
            raise RemoteError("a part is gone")
        return copy(*given)

    monkeypatch.setattr(addressed_arrays, "_copy", overtaken)
    machine(3)
    with pytest.raises(ConfigError, match="all.parquet exists; continue it with --resume"):
        embed(sounds, "1/2")
    assert calls and store.keys() == ["tables/all.parquet"]


def test_parts_that_another_machine_joins_while_they_are_listed_are_not_made_again(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, calls = AddressedJob.part_names, list[str]()

    def overtaken(job: AddressedJob) -> list[str]:
        found = names(job)
        if not calls:
            calls.append("listed")
            machine(2)
            assert embed(sounds, "2/2").rows == 6
            machine(3)
        return found

    machine(1)
    embed(sounds, "1/2")
    machine(3)
    monkeypatch.setattr(AddressedJob, "part_names", overtaken)
    with pytest.raises(ConfigError, match="all.parquet exists"):
        embed(sounds, "2/2")
    assert calls and store.keys() == ["tables/all.parquet"]


def test_parts_of_another_job_are_refused(sounds: Path, store: Store, tmp_path: Path, machine: Machine) -> None:
    machine(1)
    embed(sounds, "1/2")
    keys = store.keys()
    machine(2)
    with pytest.raises(ConfigError, match=r"s3://sounds/tables/.all.parquet.tasks has parts of a job of 2 tasks"):
        embed(sounds, "2/3")
    with pytest.raises(ConfigError, match=r"all.parquet .*another identity"):
        unheard.embed("random-tiny", sounds, TABLE, task="2/2", layer=-2, device="cpu")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r".all.parquet.tasks has parts of tasks; complete the output"):
            unheard.embed("random-tiny", sounds, TABLE, overwrite=overwrite, device="cpu")
    assert store.keys() == keys and not left(tmp_path)


def test_a_local_plan_of_an_earlier_job_is_refused(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of two jobs with as many tasks are never joined."""
    monkeypatch.setattr(access, "TRIES", 1)
    machine(1)
    store.faults.append(Fault("503", "PUT", ".parquet", times=10_000))
    with pytest.raises(RemoteError, match="what is computed is kept"):
        embed(sounds, "1/2")
    store.faults.clear()
    for key in store.keys():  # noqa: SIM118 - a method of ours
        store.client.delete_object(Bucket=BUCKET, Key=key)
    machine(2)
    unheard.embed("random-tiny", sounds, TABLE, task="2/2", layer=-2, device="cpu")
    machine(1)
    with pytest.raises(ConfigError, match=r"has parts of another job than the local copy in .*machine-1"):
        embed(sounds, "1/2")
    assert "tables/all.parquet" not in store.keys()  # noqa: SIM118 - a method of ours


@pytest.mark.parametrize(
    ("moment", "rows"),
    [(("none", 0), 6), (("_copy", 2), 3), (("_upload_results", 2), 6)],
    ids=["alone", "before", "after"],
)
def test_tasks_that_end_at_the_same_time_join_the_parts(
    sounds: Path, store: Store, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch,
    moment: tuple[str, int], rows: int,
) -> None:  # fmt: skip
    """Task 1 ends while task 2 computes; the parts are then joined by task 2 alone, or also by another machine, before
    or after task 2 has copied them.
    """
    others = {("_upload_results", 1): 3, moment: 6}
    calls: list[str] = []
    elsewhere: list[int] = []

    def disturb(name: str) -> None:
        original = getattr(addressed_arrays, name)

        def disturbed(*given: object) -> object:
            if len(elsewhere) % 2 == 0:
                calls.append(name)
                expected = others.get((name, calls.count(name)))
                if expected is not None:
                    elsewhere.append(expected)
                    machine(expected)
                    assert embed(sounds, "1/2").rows == expected
                    machine(2)
                    elsewhere.append(0)
            return original(*given)

        monkeypatch.setattr(addressed_arrays, name, disturbed)

    disturb("_copy")
    disturb("_upload_results")
    machine(2)
    assert embed(sounds, "2/2").rows == rows
    assert len(elsewhere) == (2 if moment[0] == "none" else 4)
    assert store.keys() == ["tables/all.parquet"] and not left(tmp_path)


def test_a_packed_corpus_and_targets_have_the_bytes_of_one_process(
    sounds: Path, memory: str, tmp_path: Path, machine: Machine
) -> None:
    options = ["--store", "wav", "--shard-mb", "1"]
    packed = tmp_path / "packed"
    long = tmp_path / "long"
    long.mkdir()
    for number in range(3):
        values = 0.1 * np.random.default_rng(number).standard_normal(400_000)
        soundfile.write(long / f"{number}.wav", values, 16_000)
    assert main(["data", "pack", str(long), "-o", str(packed), *options]) == 0
    for number in (1, 2):
        machine(number)
        assert not exists(f"{memory}/packed/dataset.json")
        assert main(["data", "pack", str(long), "-o", f"{memory}/packed", *options, "--task", f"{number}/2"]) == 0
    assert content(f"{memory}/packed") == local(packed) and list(files_below(memory)) == [
        f"packed/{name}" for name in sorted(local(packed))
    ]
    with pytest.raises(ConfigError, match="the tasks of --pca need a folder that all of them share"):
        api.targets(packed, "random-tiny", f"{memory}/targets", task="1/1", pca=4, device="cpu")
    api.targets(packed, "random-tiny", tmp_path / "targets", device="cpu")
    assert not isinstance(api.targets(packed, "random-tiny", f"{memory}/targets", task="1/1", device="cpu"), TaskReport)
    assert content(f"{memory}/targets") == local(tmp_path / "targets") and not left(tmp_path)


def test_a_file_system_is_an_address_too(sounds: Path, tmp_path: Path, machine: Machine) -> None:
    out = f"file://{tmp_path}/out/all.csv"
    for number in (1, 2):
        machine(number)
        unheard.embed("random-tiny", sounds, out, task=f"{number}/2", device="cpu")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"all.csv", "all.csv.json"} and not left(tmp_path)
    assert unheard.embed("random-tiny", sounds, out, resume=True, device="cpu").resumed == 6
