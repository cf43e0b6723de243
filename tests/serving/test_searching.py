"""Embedding of a folder in the background, search, and map."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.serving.conftest import RATE, Served, tone
from tests.serving.conftest import serve as served_by

import unheard
from unheard.audio.waveform import read
from unheard.embedding.table_jobs.audio_progress import IN_MINUTES
from unheard.serving.folder_vectors import FolderVectors, default_cache
from unheard.serving.library import Library
from unheard.serving.limits import RefusedError
from unheard.serving.workbench import Workbench


def vectors(model, folder: Path, cache: Path) -> FolderVectors:
    """Embed a folder and wait for it."""
    made = FolderVectors(model, Library(folder), cache)
    made.start()
    made.wait()
    return made


def test_the_vectors_are_those_of_the_model(embedded: Served, served_folder, served_model) -> None:
    found = embedded.bench.embedded
    assert len(found.files) == 36
    for row in (0, 17, 35):
        expected = served_model.embed(found.files[row].path).scene
        np.testing.assert_allclose(found.vectors[row], expected, atol=1e-5)
    sound = embedded.ids()["low/low 05.wav"]
    vector = embedded.client.post("/api/embed", json={"sound": sound}).json()["vector"]
    np.testing.assert_allclose(vector, served_model.embed(served_folder / "low/low 05.wav").scene, atol=1e-5)


def test_a_file_longer_than_an_upload_may_be_is_embedded_to_its_end(
    embedded: Served, served_folder, served_model, monkeypatch
) -> None:
    sound, file = embedded.ids()["low/low 05.wav"], served_folder / "low/low 05.wav"
    monkeypatch.setattr(embedded.bench, "limits", replace(embedded.bench.limits, upload_seconds=0.1))
    parts = ({"sound": sound, "start": start} for start in (0.0, 0.2))
    wrong = embedded.client.post("/api/embed", json={"sound": sound, "start": 0.2, "end": 0.2})
    assert wrong.status_code == 422 and "not after its start" in wrong.text
    whole, rest = (embedded.client.post("/api/embed", json=part).json()["vector"] for part in parts)
    np.testing.assert_allclose(whole, served_model.embed(file).scene, atol=1e-5)
    np.testing.assert_allclose(rest, served_model.embed(read(file, start=0.2)).scene, atol=1e-5)


def test_similar_files_come_first_as_on_the_command_line(embedded: Served, served_folder) -> None:
    ids = embedded.ids()
    hits = embedded.client.post("/api/neighbours", json={"like": [{"sound": ids["low/low 04.wav"]}], "k": 8}).json()
    table = embedded.bench.embedded.table
    expected = unheard.search(table, like=served_folder / "low/low 04.wav", k=8, model=embedded.bench.model)
    names = [os.path.relpath(hit.path, served_folder) for hit in expected]
    assert [hit["name"] for hit in hits["hits"]] == names and "low/low 04.wav" not in names
    assert {hit["folder"] for hit in hits["hits"][:5]} == {"low"}


def test_uploads_parts_and_counter_examples_search_too(embedded: Served) -> None:
    wav = np.concatenate([tone(2900, 1.0), tone(170, 1.0)])
    sound = embedded.upload(wav)
    for part, group in (({"start": 0, "end": 0.9}, "high"), ({"start": 1.1, "end": 2.0}, "low")):
        asked = {"like": [{"sound": sound, **part}], "k": 5}
        assert {hit["folder"] for hit in embedded.client.post("/api/neighbours", json=asked).json()["hits"]} == {group}
    ids = embedded.ids()
    asked = {"like": [{"sound": sound}], "unlike": [{"sound": ids["high/high 03.wav"]}], "k": 36}
    scores = {hit["name"]: hit["score"] for hit in embedded.client.post("/api/neighbours", json=asked).json()["hits"]}
    before = embedded.client.post("/api/neighbours", json={**asked, "unlike": []}).json()["hits"]
    assert all(scores[hit["name"]] < hit["score"] for hit in before if hit["folder"] == "high")


def test_a_search_needs_an_example_and_a_model_with_text_for_words(embedded: Served) -> None:
    response = embedded.client.post("/api/neighbours", json={})
    assert response.status_code == 422 and "at least one example" in response.json()["detail"]
    response = embedded.client.post("/api/neighbours", json={"words": "dog"})
    assert response.status_code == 422 and "not trained with captions" in response.json()["detail"]


def test_the_map_separates_the_folders(embedded: Served) -> None:
    found = embedded.client.get("/api/map?clusters=3").json()
    assert len(found["points"]) == found["total"] == 36 and 0 < found["variance"] <= 1
    groups = {name: [p for p in found["points"] if p["folder"] == name] for name in ("low", "high", "noise")}
    assert {len(points) for points in groups.values()} == {12}
    assert len({p["cluster"] for p in groups["noise"]}) == 1
    places = {name: np.array([p["pca"] for p in points]) for name, points in groups.items()}
    spread = max(place.std(axis=0).max() for place in places.values())
    assert np.linalg.norm(places["noise"].mean(axis=0) - places["high"].mean(axis=0)) > spread
    assert embedded.client.get("/api/map?clusters=3").json() == found


def test_a_map_of_some_files_states_how_many_there_are(embedded: Served, monkeypatch) -> None:
    monkeypatch.setattr("unheard.evaluation.probe.projection.MOST_POINTS", 10)
    monkeypatch.setattr("unheard.serving.folder_map.EmbeddingCache", lambda *_: lambda name, make: make())
    found = embedded.client.get("/api/map?clusters=3").json()
    assert (len(found["points"]), found["total"]) == (10, 36)


def test_without_a_folder_and_before_the_end_there_is_a_reason(served_model, served_folder, tmp_path) -> None:
    alone = served_by(Workbench(served_model))
    assert alone.client.get("/api/folder").json()["state"] == "none"
    response = alone.client.get("/api/map")
    assert response.status_code == 409 and "unheard serve MODEL FOLDER" in response.json()["detail"]
    library = Library(served_folder)
    waiting = served_by(Workbench(served_model, library, folder=FolderVectors(served_model, library, tmp_path)))
    response = waiting.client.get("/api/map")
    assert response.status_code == 409 and "0 of 36 files" in response.json()["detail"]
    assert response.headers["retry-after"]


def test_files_are_counted_also_with_long_recordings(served_model, tmp_path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", tone(200 + 400 * number, 100.0), RATE)
    library, found = Library(folder), []
    made = FolderVectors(served_model, library, tmp_path / "cache")
    shown = made._track(range(4), 4, IN_MINUTES)
    for _ in shown:
        found.append((made.progress.done, made.progress.total))
    assert found == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert (vectors(served_model, folder, tmp_path / "cache").progress.done) == 2


def test_embeddings_are_cached_and_follow_the_files(served_model, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", tone(200 + 400 * number), RATE)
    first = vectors(served_model, folder, tmp_path / "cache").found
    embedded: list[str] = []
    original = type(served_model).embed_many

    def counted(self, sounds, *given, **named):
        def seen():
            for sound in sounds:
                embedded.append(Path(sound).name)
                yield sound

        return original(self, seen(), *given, **named)

    monkeypatch.setattr(type(served_model), "embed_many", counted)
    again = vectors(served_model, folder, tmp_path / "cache").found
    assert embedded == [] and np.array_equal(again.vectors, first.vectors)
    soundfile.write(folder / "1.wav", tone(5000, 1.2), RATE)
    soundfile.write(folder / "9.wav", tone(3000), RATE)
    (folder / "2.wav").unlink()
    changed = vectors(served_model, folder, tmp_path / "cache").found
    assert sorted(embedded) == ["1.wav", "9.wav"]
    assert sorted(file.name for file in changed.files) == ["0.wav", "1.wav", "3.wav", "9.wav"]
    row = next(row for row, file in enumerate(changed.files) if file.name == "1.wav")
    np.testing.assert_allclose(changed.vectors[row], served_model.embed(folder / "1.wav").scene, atol=1e-5)


def test_a_damaged_record_of_the_cache_is_computed_again(served_model, tmp_path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(200), RATE)
    first = vectors(served_model, folder, tmp_path / "cache")
    (first.folder / "files.json").write_text("{")
    assert np.array_equal(vectors(served_model, folder, tmp_path / "cache").found.vectors, first.found.vectors)


def test_unreadable_files_are_named_without_their_place(served_model, tmp_path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(200), RATE)
    (folder / "b.wav").write_bytes(b"no sound")
    made = vectors(served_model, folder, tmp_path / "cache")
    state = served_by(Workbench(served_model, Library(folder), folder=made)).client.get("/api/folder").json()
    assert state["state"] == "ready" and state["skipped"][0][0] == "b.wav" and str(tmp_path) not in str(state)


def test_a_folder_that_cannot_be_embedded_is_a_state(served_model, tmp_path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    (folder / "b.wav").write_bytes(b"no sound")
    made = vectors(served_model, folder, tmp_path / "cache")
    assert made.progress.state == "failed" and "none of the 1 files" in made.progress.error
    with pytest.raises(RefusedError, match="none of the 1 files"):
        _ = made.found


def test_the_cache_is_in_the_folder_of_the_user(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/unheard/serve")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache/unheard/serve"


def test_a_moved_folder_has_its_own_cache(served_model, served_folder, tmp_path) -> None:
    shutil.copytree(served_folder / "low", tmp_path / "low")
    one = FolderVectors(served_model, Library(served_folder), tmp_path)
    assert one.folder != FolderVectors(served_model, Library(tmp_path / "low"), tmp_path).folder
