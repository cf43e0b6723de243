"""Fetched corpora, tasks and public data sets at addresses equal those of local folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.datasets.test_hear_tasks import DRUMS, KITS, TRAINED, corpus_of
from tests.datasets.test_layouts import audioset, gtzan, magnatagatune
from tests.datasets.test_selections import _raven, _recording
from tests.datasets.test_sources import needs_dpkg, store  # noqa: F401 - a fixture

from unheard.audio.folders import find_audio
from unheard.cli import main
from unheard.data.manifest import from_table, read_manifest
from unheard.datasets.filename_labels import write_labels
from unheard.datasets.layouts import import_labels
from unheard.errors import DataError, RemoteError
from unheard.remote import listing, mirror
from unheard.remote.cache import cache_folder
from unheard.remote.listing import Entry, files_below
from unheard.remote.outputs import local_output
from unheard.remote.reading import local_path, open_file
from unheard.remote.writing import upload, upload_folder


def uploaded(folder: Path, address: str) -> str:
    upload_folder(
        folder, address, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    )
    return address


def waiting() -> list[Path]:
    """Return the files that wait for their upload."""
    return [path for path in (cache_folder() / "out").rglob("*") if path.is_file()]


def rows_of(table: str | Path) -> list[dict[str, str]]:
    with local_path(table).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def drums(tmp_path: Path) -> Path:
    kits = (*TRAINED, "ForzeeStereo", "HardElectro1")
    files = {f"{KITS}/{kit}/{drum}.wav": "effects" for kit in kits for drum in DRUMS}
    files["hydrogen-data/hydrogen/data/drumkits/GMRockKit/kick.wav"] = "effects"
    return corpus_of(tmp_path / "corpus", files | {"other/large.wav": "music"})


@needs_dpkg
def test_packages_are_fetched_to_an_address(
    store: Path,  # noqa: F811
    memory: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", "fetch", "hedgewars-data", "-o", str(tmp_path / "local"), "--json"]) == 0
    local = json.loads(capsys.readouterr().out)
    assert main(["data", "fetch", "hedgewars-data", "-o", f"{memory}/c", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**local, "manifest": f"{memory}/c/manifest.csv"}
    assert main(["data", "fetch", "ufoai-sound", "-o", f"{memory}/c"]) == 0
    listed = files_below(f"{memory}/c")
    assert {row["path"] for row in rows_of(f"{memory}/c/manifest.csv")} == set(listed) - {"manifest.csv"}
    assert len(listed) > local["files"] + 1
    assert main(["data", "check", f"{memory}/c"]) == 0
    assert main(["data", "fetch", "none-such", "-o", f"{memory}/c"]) == 2
    assert set(files_below(f"{memory}/c")) == set(listed) and not waiting()
    assert main(["data", "fetch", "megaglest-data", "-o", f"{memory}/c"]) == 2  # the store of packages lacks it
    assert set(files_below(f"{memory}/c")) == set(listed)
    with open_file(f"{memory}/c/manifest.csv") as file:
        kept = file.read()
    assert [path.read_bytes() for path in waiting()] in ([], [kept])  # copies of sounds do not stay
    assert main(["data", "fetch", "hedgewars-data", "-o", f"{memory}/c/manifest.csv"]) == 2
    assert f"{memory}/c/manifest.csv is a file; give a folder" in capsys.readouterr().err


def test_tasks_are_built_from_and_at_addresses(
    drums: Path, memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = uploaded(drums, f"{memory}/corpus")
    assert main(["data", "tasks", "drum-hit", "-o", str(tmp_path / "tasks"), "--corpus", str(drums)]) == 0
    capsys.readouterr()
    assert main(["data", "tasks", "drum-hit", "-o", f"{memory}/tasks", "--corpus", corpus, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["folder"] == f"{memory}/tasks/drum_hit-v1-folds"
    local = {path.relative_to(tmp_path / "tasks").as_posix(): path for path in (tmp_path / "tasks").rglob("*")}
    assert set(files_below(f"{memory}/tasks")) == {name for name, path in local.items() if path.is_file()}
    for name, path in local.items():
        if path.is_file():
            with open_file(f"{memory}/tasks/{name}") as file:
                assert file.read() == path.read_bytes()
    assert not list(cache_folder().rglob("large.wav"))  # of a package that the task does not need
    again = ["data", "tasks", "drum-hit", "-o", f"{memory}/tasks", "--corpus", corpus]
    assert main(again) == 2 and f"{memory}/tasks" in capsys.readouterr().err
    assert not waiting()
    assert main([*again, "--overwrite"]) == 0
    assert main(["data", "tasks", "unit-action", "-o", f"{memory}/tasks", "--corpus", corpus]) == 2
    assert f"unheard data fetch megaglest-data -o {corpus}" in capsys.readouterr().err


def test_labels_of_a_corpus_at_an_address_name_its_sounds(drums: Path, memory: str, tmp_path: Path) -> None:
    corpus = uploaded(drums, f"{memory}/corpus")
    assert main(["data", "labels", "drum-hit", str(drums), "-o", str(tmp_path / "local.csv")]) == 0
    assert main(["data", "labels", "drum-hit", corpus, "-o", str(tmp_path / "remote.csv")]) == 0
    local, remote = rows_of(tmp_path / "local.csv"), rows_of(tmp_path / "remote.csv")
    assert [row | {"path": row["path"].replace("corpus/", f"{corpus}/")} for row in local] == remote
    assert not list(cache_folder().rglob("*.wav"))
    assert main(["data", "check", *(row["path"] for row in remote[:3])]) == 0
    assert main(["data", "captions", corpus, "-o", str(tmp_path / "captions.csv")]) == 0
    training = {f"{corpus}/{row['path']}" for row in read_manifest(drums) if row["heldout"] != "1"}
    assert {row["path"] for row in rows_of(tmp_path / "captions.csv")} <= training


@pytest.mark.parametrize(
    ("name", "build"), [("audioset", audioset), ("gtzan", gtzan), ("magnatagatune", magnatagatune)]
)
def test_public_data_sets_are_imported_without_their_sounds(
    name: str, build: object, memory: str, tmp_path: Path
) -> None:
    build(tmp_path / "set")  # type: ignore[operator]
    (tmp_path / "set" / "features.npz").write_bytes(b"not a table")
    address = uploaded(tmp_path / "set", f"{memory}/set")
    local = import_labels(name, tmp_path / "set", tmp_path / "local.csv")
    remote = import_labels(name, address, tmp_path / "remote.csv")
    assert (remote.clips, remote.sides, remote.missing) == (local.clips, local.sides, local.missing)
    wanted = [row | {"path": row["path"].replace("set/", f"{address}/", 1)} for row in rows_of(local.table)]
    assert rows_of(remote.table) == wanted
    kept = [path for path in cache_folder().rglob("*") if path.suffix in (".wav", ".mp3", ".flac", ".au")]
    assert not any(path.read_bytes().strip(b"\0") for path in kept)
    assert not any(path.read_bytes().strip(b"\0") for path in cache_folder().rglob("features.npz"))


def test_annotations_and_archives_at_an_address_are_imported(memory: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _recording(tmp_path / "r" / f"{name}.wav", 4.0)
        _raven(tmp_path / "r" / f"{name}.selections.txt", (0.5, 1.0, "wren"), (2.0, 2.5, "owl"))
    address = uploaded(tmp_path / "r", f"{memory}/r")
    tables = {}
    for where, source in (("local", str(tmp_path / "r")), ("remote", address), ("one", f"{address}/a.selections.txt")):
        command = ["data", "import", "raven", source, "-o", str(tmp_path / f"{where}.csv"), "--background"]
        assert main(command) == 0
        tables[where] = rows_of(tmp_path / f"{where}.csv")
    wanted = [{**row, "path": f"{address}/{Path(row['path']).name}"} for row in tables["local"]]
    assert [{**row, "group": ""} for row in tables["remote"]] == [{**row, "group": ""} for row in wanted]
    assert {row["path"] for row in tables["one"]} == {f"{address}/a.wav"}


def test_a_failed_upload_of_a_task_is_repaired_by_the_same_command(
    drums: Path, memory: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["data", "tasks", "drum-hit", "-o", f"{memory}/tasks", "--corpus", str(drums)]
    folder, plain = "drum_hit-v1-folds", mirror.upload

    def failing(file: Path, address: str) -> None:
        if address.endswith("task_metadata.json"):
            raise RemoteError("no network")
        plain(file, address)

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "upload", failing)
        assert main(command) == 2
    assert "give the same command again" in capsys.readouterr().err
    assert f"{folder}/task_metadata.json" not in files_below(f"{memory}/tasks")  # it is uploaded last
    assert main(command) == 0 and not waiting()
    assert f"{folder}/task_metadata.json" in files_below(f"{memory}/tasks")
    assert main(command) == 2 and f"{memory}/tasks/{folder} exists" in capsys.readouterr().err


def test_what_another_process_adds_stays(memory: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    upload(tmp_path / "file", f"{memory}/out/old")
    with local_output(f"{memory}/out", resume=True, verb="tasks") as place:
        (place / "old").unlink()
        (place / "new").write_text("y")
        upload(tmp_path / "file", f"{memory}/out/other")
    assert set(files_below(f"{memory}/out")) == {"new", "other"}


def test_an_interrupted_copy_does_not_replace_the_file(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    upload(tmp_path / "file", f"{memory}/out/large")

    def interrupted(source: object, target: Path) -> None:
        target.write_bytes(b"x")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt), local_output(f"{memory}/out", resume=True, verb="tasks"):
            pass
    with local_output(f"{memory}/out", resume=True, verb="tasks") as place:
        (place / "small").write_text("y")
    assert {name: entry.size for name, entry in files_below(f"{memory}/out").items()} == {"large": 5000, "small": 1}


def test_local_folders_are_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    for given in ("./r", "r/", "r"):
        with pytest.raises(DataError, match=r"^r/manifest.csv: no such file; fetch a corpus into that folder first: "):
            write_labels("drum-hit", given, "labels.csv")


def test_what_cannot_be_imported_or_labelled_is_named_by_its_address(
    memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = _recording(tmp_path / "here" / "a.wav", 4.0)
    (tmp_path / "r").mkdir()
    _raven(tmp_path / "r" / "a.selections.txt", (0.5, 1.0, "wren"))
    table = (tmp_path / "r" / "a.selections.txt").read_text().splitlines()
    head, *rows = [line.split("\t") for line in table]
    lines = ["\t".join([*head, "Begin Path"]), *("\t".join([*row, str(recording)]) for row in rows)]
    (tmp_path / "r" / "a.selections.txt").write_text("\n".join(lines) + "\n")
    address = uploaded(tmp_path / "r", f"{memory}/r")
    assert main(["data", "import", "raven", address, "-o", str(tmp_path / "x.csv")]) == 2
    assert f"{address}: a table names a recording of this machine, a.wav" in capsys.readouterr().err
    assert main(["data", "labels", "drum-hit", address, "-o", str(tmp_path / "x.csv")]) == 2
    assert f"{address}/manifest.csv: no such file; fetch a corpus" in capsys.readouterr().err
    assert main(["data", "labels", "drum-hit", f"{memory}/none", "-o", str(tmp_path / "x.csv")]) == 2
    assert f"{memory}/none: no such f" in capsys.readouterr().err
    assert main(["runs", f"{address}/a.selections.txt"]) == 2
    assert f"there is no folder {address}/a.selections.txt" in capsys.readouterr().err
    with pytest.raises(DataError, match=f"{address}/a.selections.txt: is a file; give a folder"):
        find_audio(f"{address}/a.selections.txt")
    assert not (tmp_path / "x.csv").exists()


def test_sizes_that_a_store_does_not_give_leave_no_clip_out(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    magnatagatune(tmp_path / "set")
    address = uploaded(tmp_path / "set", f"{memory}/set")
    below = listing.files_below(address)
    monkeypatch.setattr(
        "unheard.remote.reading.files_below", lambda _: {name: Entry(-1, each.version) for name, each in below.items()}
    )
    clips = import_labels("magnatagatune", tmp_path / "set", tmp_path / "local.csv").clips
    assert import_labels("magnatagatune", address, tmp_path / "remote.csv").clips >= clips > 0


def test_tables_name_addresses_of_any_scheme_and_local_folders_with_a_colon(tmp_path: Path) -> None:
    rows = [{"path": "a.wav"}]
    assert from_table(rows, Path("cos://bucket/d"), tmp_path / "t.csv") == [{"path": "cos://bucket/d/a.wav"}]
    (tmp_path / "take:").mkdir()
    assert from_table([{"path": "take:/a.wav"}], tmp_path, tmp_path / "t.csv") == [{"path": "take:/a.wav"}]
