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

from unheard.cli import main
from unheard.data.manifest import read_manifest
from unheard.datasets.layouts import import_labels
from unheard.remote.cache import cache_folder
from unheard.remote.listing import files_below
from unheard.remote.reading import local_path, open_file
from unheard.remote.writing import upload_folder


def uploaded(folder: Path, address: str) -> str:
    upload_folder(
        folder, address, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    )
    return address


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
    assert set(files_below(f"{memory}/c")) == set(listed)


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
    address = uploaded(tmp_path / "set", f"{memory}/set")
    local = import_labels(name, tmp_path / "set", tmp_path / "local.csv")
    remote = import_labels(name, address, tmp_path / "remote.csv")
    assert (remote.clips, remote.sides, remote.missing) == (local.clips, local.sides, local.missing)
    wanted = [row | {"path": row["path"].replace("set/", f"{address}/", 1)} for row in rows_of(local.table)]
    assert rows_of(remote.table) == wanted
    kept = [path for path in cache_folder().rglob("*") if path.suffix in (".wav", ".mp3", ".flac", ".au")]
    assert not any(path.read_bytes().strip(b"\0") for path in kept)


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
