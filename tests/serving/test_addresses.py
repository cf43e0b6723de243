"""A folder at an address is served as a local one."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.conftest import SMALL, Served, serve

from unheard.audio.folders import find_audio
from unheard.cli.serving import _model_and_folder
from unheard.embedding.embedder import Model
from unheard.errors import DataError
from unheard.remote import listing
from unheard.remote.listing import files_below, forget
from unheard.remote.writing import delete, upload, upload_folder
from unheard.serving.folder_vectors import FolderVectors
from unheard.serving.label_file import LabelFile
from unheard.serving.library import Library
from unheard.serving.workbench import Workbench


@pytest.fixture
def address(served_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / "copies"))
    monkeypatch.setattr(listing, "_known", {})
    made = f"memory://{uuid.uuid4().hex}/sounds"
    upload_folder(
        served_folder, made, [path.relative_to(served_folder).as_posix() for path in find_audio(served_folder)]
    )
    delete(f"{made}/link.wav")
    return made


@pytest.fixture
def remote(served_model: Model, address: str, tmp_path: Path) -> Iterator[Served]:
    library = Library(Path(address))
    folder = FolderVectors(served_model, library, tmp_path / "vectors")
    folder.start()
    folder.wait()
    bench = Workbench(served_model, library, SMALL, folder, tmp_path / "labels.csv")
    yield serve(bench)
    bench.close()


def test_names_search_map_and_sounds_are_those_of_the_local_folder(
    remote: Served, embedded: Served, address: str, served_model: Model, tmp_path: Path
) -> None:
    assert set(remote.ids()) == set(embedded.ids()) and len(remote.ids()) == 36
    answers = []
    for served in (remote, embedded):
        sound = served.ids()["low/low 04.wav"]
        hits = served.client.post("/api/neighbours", json={"like": [{"sound": sound}], "k": 8}).json()["hits"]
        played = served.client.get(f"/api/sounds/{sound}/audio?start=0.25&seconds=0.5").content
        answers.append(([hit["name"] for hit in hits], [hit["score"] for hit in hits], played))
    assert answers[0][0] == answers[1][0] and "low/low 04.wav" not in answers[0][0]
    assert answers[0][1] == pytest.approx(answers[1][1], abs=1e-3) and answers[0][2] == answers[1][2]
    folder = remote.client.get("/api/status").json()
    assert folder["folder"] == "sounds" and folder["files"] == 36
    begun = (remote.bench.folder.folder / "embeddings.parquet").stat().st_mtime_ns
    again = FolderVectors(served_model, Library(Path(address)), tmp_path / "vectors")
    again.start()
    again.wait()
    assert again.folder == remote.bench.folder.folder and len(again.found.files) == 36
    assert (again.folder / "embeddings.parquet").stat().st_mtime_ns == begun


def test_a_replaced_file_is_embedded_again(
    remote: Served, address: str, served_folder: Path, served_model: Model, tmp_path: Path
) -> None:
    upload(served_folder / "high/high 00.wav", f"{address}/low/low 00.wav")
    forget(f"{address}/low/low 00.wav")
    again = FolderVectors(served_model, Library(Path(address)), tmp_path / "vectors")
    again.start()
    again.wait()
    assert again.folder == remote.bench.folder.folder
    rows = {file.name: vector for file, vector in zip(again.found.files, again.found.vectors, strict=True)}
    assert len(rows) == 36 and rows["low/low 00.wav"] == pytest.approx(rows["high/high 00.wav"], abs=1e-5)


def test_labels_name_addresses_and_are_read_again(remote: Served, address: str) -> None:
    sound = remote.ids()["low/low 00.wav"]
    state = remote.client.post("/api/labels", json={"name": "low", "examples": [{"sound": sound}]}).json()
    asked = {"name": "low", "sound": state["next"]["id"], "answer": "yes"}
    remote.client.post("/api/labels/answer", json=asked)
    with remote.bench.labels.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["path"].startswith(f"{address}/") and row["label"] == "low"
    read = LabelFile(remote.bench.labels, Library(Path(address)))
    assert read.answers == {"low": {state["next"]["id"]: True}}


def test_what_is_gone_or_not_there_is_named(remote: Served, address: str, tmp_path: Path) -> None:
    sound = remote.ids()["noise/noise 03.wav"]
    delete(f"{address}/noise/noise 03.wav")
    answer = remote.client.get(f"/api/sounds/{sound}/window")
    assert answer.status_code == 404 and sound in answer.text
    with pytest.raises(DataError, match=f"{address}-none: no such folder"):
        Library(Path(f"{address}-none"))
    upload(remote.bench.labels if remote.bench.labels.exists() else Path(__file__), f"{address}-text/notes.txt")
    assert list(files_below(f"{address}-text")) == ["notes.txt"]
    with pytest.raises(DataError, match="no audio in"):
        Library(Path(f"{address}-text"))
    assert _model_and_folder([address]) == (None, Path(address))
