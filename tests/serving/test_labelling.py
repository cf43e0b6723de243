"""Labels by questions: what is asked, what is stored, and the classifier that comes out."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.serving.conftest import RATE, SMALL, Served, serve, tone

import unheard
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.errors import DataError
from unheard.evaluation.probe.rare_class import PRECISION, WhitenedFolder, fit_class
from unheard.serving.label_file import LabelFile
from unheard.serving.labelling import EVERY
from unheard.serving.workbench import Workbench


def begin(served: Served, name: str = "low", like: str = "low/low 00.wav") -> dict:
    asked = {"name": name, "examples": [{"sound": served.ids()[like]}]}
    response = served.client.post("/api/labels", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def answer(served: Served, state: dict, given: str | None = None) -> dict:
    """Answer the next question truthfully, or as given."""
    clip = state["next"]
    truth = "yes" if clip["name"].startswith(state["name"]) else "no"
    asked = {"name": state["name"], "sound": clip["id"], "answer": given or truth}
    return served.client.post("/api/labels/answer", json=asked).json()


def rows(served: Served) -> list[dict[str, str]]:
    with served.bench.labels.open(newline="") as file:
        return list(csv.DictReader(file))


def test_similar_clips_come_first_and_answers_are_stored_at_once(embedded: Served) -> None:
    state, asked = begin(embedded), []
    for number in range(1, 7):
        asked.append(state["next"]["name"])
        state = answer(embedded, state)
        assert len(rows(embedded)) == number == state["yes"] + state["no"]
    assert sum(name.startswith("low") for name in asked) >= 4 and state["head"] is None
    assert state["until_fit"] == EVERY - 6
    labels = {Path(row["path"]).name: row["label"] for row in rows(embedded)}
    assert all(label == ("low" if name.startswith("low") else "not low") for name, label in labels.items())


def test_after_twenty_answers_a_head_is_fitted_and_the_smallest_margin_is_next(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        assert state["head"] is None and state["next"]["score"] is None
        state = answer(embedded, state)
    assert state["head"]["clips"] == EVERY and state["head"]["precision"] > 0.8 and state["until_fit"] == EVERY
    found, given = embedded.bench.embedded, embedded.bench.label_file.answers["low"]
    known = [row for row, file in enumerate(found.files) if file.id in given]
    order = [found.row(sound) for sound in given]
    head = fit_class(WhitenedFolder(found.vectors), np.array(order), np.array([int(each) for each in given.values()]))
    logits = found.vectors @ head.weight + head.bias
    left = [row for row in range(36) if row not in known]
    assert state["next"]["id"] == found.files[min(left, key=lambda row: abs(logits[row]))].id


def test_skips_are_not_asked_again_and_undo_takes_back_one_answer(embedded: Served) -> None:
    state = begin(embedded)
    first = state["next"]["id"]
    state = answer(embedded, state, "skip")
    assert state["skipped"] == 1 and state["next"]["id"] != first and not embedded.bench.labels.exists()
    second = state["next"]["id"]
    state = answer(embedded, state)
    assert len(rows(embedded)) == 1
    state = embedded.client.post("/api/labels/undo", json={"name": "low"}).json()
    assert rows(embedded) == [] and state["next"]["id"] == second
    state = embedded.client.post("/api/labels/undo", json={"name": "low"}).json()
    assert state["skipped"] == 0 and state["next"]["id"] == first
    response = embedded.client.post("/api/labels/undo", json={"name": "low"})
    assert response.status_code == 422 and "no answer" in response.json()["detail"]


def test_equal_answers_give_no_head_and_a_reason(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state, "yes")
    assert state["head"] is None and "2 without it" in state["message"]
    response = embedded.client.post("/api/labels/save")
    assert response.status_code == 422 and "2 without it" in response.json()["detail"]


def test_one_clip_with_the_class_is_too_few_and_the_second_gives_a_head(embedded: Served) -> None:
    state = answer(embedded, begin(embedded), "yes")
    while state["no"] < EVERY - 1:
        state = answer(embedded, state, "no")
    assert state["head"] is None and "2 clips with the class" in state["message"] and state["until_fit"] == 1
    assert embedded.client.post("/api/labels/save").status_code == 422
    state = answer(embedded, state, "yes")
    assert state["head"]["clips"] == EVERY + 1 and state["until_fit"] == EVERY


def test_the_page_states_what_is_expected_of_clips_without_an_answer(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state)
    found, given, head = embedded.bench.embedded, embedded.bench.label_file.answers["low"], state["head"]
    logits = embedded.bench.labelling.head().logits(found.vectors)[:, 0]
    probability = {file.id: 1 / (1 + np.exp(-z)) for file, z in zip(found.files, logits, strict=True)}
    reach = [p for sound, p in probability.items() if sound not in given and p >= head["threshold"]]
    assert head["detected"] == len(reach)
    assert head["expected"] == (pytest.approx(np.mean(reach), abs=2e-3) if reach else None)
    assert not reach or head["expected"] >= PRECISION


def test_labels_are_continued_by_another_server(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(EVERY + 2):
        state = answer(embedded, state)
    other = serve(
        Workbench(embedded.bench.model, embedded.bench.library, SMALL, embedded.bench.folder, embedded.bench.labels)
    )
    again = begin(other)
    assert (again["yes"], again["no"]) == (state["yes"], state["no"]) and again["head"] is not None
    assert other.client.get("/api/labels").json() == {"low": {"yes": state["yes"], "no": state["no"]}}


def test_one_class_gives_a_table_of_two_labels(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(36):
        state = answer(embedded, state)
    assert state["next"] is None
    labels = read_labels(embedded.bench.labels)
    assert labels.classes == ["low", "not low"] and not labels.multilabel and len(labels) == 36


@pytest.mark.slow
def test_probe_reads_the_table(embedded: Served) -> None:
    state = begin(embedded)
    for _ in range(36):
        state = answer(embedded, state)
    out = embedded.bench.labels.parent / "probe"
    assert main(["probe", "random-tiny", str(embedded.bench.labels), "-o", str(out), "--seeds", "1"]) == 0


def test_several_classes_give_a_table_with_known_classes(embedded: Served) -> None:
    for name in ("low", "high"):
        state = begin(embedded, name, f"{name}/{name} 00.wav")
        for _ in range(12):
            state = answer(embedded, state)
    labels = read_labels(embedded.bench.labels)
    assert labels.classes == ["high", "low"] and labels.multilabel and labels.known is not None
    file = LabelFile(embedded.bench.labels, embedded.bench.files)
    assert file.answers == embedded.bench.label_file.answers and set(file.answers) == {"low", "high"}


def test_the_saved_head_is_a_classifier_of_the_library(embedded: Served, served_folder, capsys) -> None:
    for name in ("low", "high"):
        state = begin(embedded, name, f"{name}/{name} 00.wav")
        for _ in range(EVERY):
            state = answer(embedded, state)
    saved = embedded.client.post("/api/labels/save").json()
    place = embedded.bench.labels.parent / saved["folder"]
    assert sorted(file.name for file in place.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model = unheard.load(place, device="cpu")
    right = 0
    for name in ("low", "high", "noise"):
        for number in range(12):
            scores = model.predict(served_folder / name / f"{name} {number:02d}.wav")
            right += {label for label, score in scores.items() if score >= 0.5} == {name} - {"noise"}
    assert right >= 33
    found = embedded.bench.embedded
    logits = embedded.bench.labelling.head().logits(found.vectors[:3])
    scores = [model.predict(found.files[row].path) for row in range(3)]
    np.testing.assert_allclose([[s["low"], s["high"]] for s in scores], 1 / (1 + np.exp(-logits)), atol=1e-4)
    assert saved["command"].endswith("--spans --threshold auto")
    thresholds = unheard.detect(place, served_folder / "low", threshold="auto").thresholds
    stored = embedded.bench.labelling.head().thresholds
    assert thresholds == pytest.approx(dict(zip(("low", "high"), stored, strict=True)))
    (classifier,) = embedded.client.get("/api/classifiers").json()
    assert classifier["thresholds"] == pytest.approx(stored)
    assert main(["predict", str(place), str(served_folder / "low"), "--top", "1"]) == 0
    assert embedded.client.post("/api/labels/save").status_code == 200  # replaces its own


def test_detections_of_the_saved_head_are_those_of_the_command(embedded: Served, tmp_path, capsys) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state)
    saved = embedded.client.post("/api/labels/save").json()
    quiet = 0.3 * np.random.default_rng(99).standard_normal(2 * RATE).astype(np.float32)
    wav = np.concatenate([quiet, tone(170, 3.0), quiet])
    soundfile.write(tmp_path / "long.wav", wav, RATE)
    sound = embedded.client.post("/api/sounds?name=long.wav", content=(tmp_path / "long.wav").read_bytes()).json()["id"]
    (classifier,) = embedded.client.get("/api/classifiers").json()
    assert classifier["labels"] == ["low"] and classifier["id"] == saved["folder"]
    asked = {"sound": sound, "classifier": classifier["id"], "threshold": 0.5, "hop": 0.5}
    found = embedded.client.post("/api/spans", json=asked).json()
    report = unheard.detect(tmp_path / saved["folder"], tmp_path / "long.wav", threshold=0.5, hop=0.5)
    assert [(s["start"], s["end"], s["label"]) for s in found["spans"]] == [
        (span.start, span.end, span.label) for span in report.spans
    ]
    assert len(found["spans"]) == 1 and abs(found["spans"][0]["start"] - 2) < 1.2
    assert found["total"] == found["seconds"] == pytest.approx(7.0)
    own = embedded.client.post("/api/spans", json={**asked, "threshold": "auto"}).json()
    assert own["thresholds"] == classifier["thresholds"] and "--threshold auto" in own["command"]
    none = embedded.client.post("/api/spans", json={**asked, "threshold": 1.0}).json()
    assert none["spans"] == [] and none["scores"] == found["scores"]


def test_a_file_that_is_replaced_is_scored_again(embedded: Served, served_folder: Path) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state)
    classifier, file = embedded.client.post("/api/labels/save").json()["folder"], served_folder / "low/low 05.wav"
    asked = {"sound": embedded.ids()["low/low 05.wav"], "classifier": classifier, "threshold": 0.5}
    content, first = file.read_bytes(), embedded.client.post("/api/spans", json=asked).json()
    try:
        soundfile.write(file, tone(170, 2.5), RATE)
        second = embedded.client.post("/api/spans", json=asked).json()
    finally:
        file.write_bytes(content)
    assert first["seconds"] == 1.0 and second["seconds"] == 2.5


def test_a_recording_that_is_scored_in_part_has_its_whole_length(embedded: Served, monkeypatch) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state)
    classifier = embedded.client.post("/api/labels/save").json()["folder"]
    monkeypatch.setattr("unheard.serving.routes.detecting.LONGEST", 2.0)
    place = io.BytesIO()
    soundfile.write(place, tone(170, 5.0), RATE, format="WAV")
    sound = embedded.client.post("/api/sounds?name=five.wav", content=place.getvalue()).json()["id"]
    found = embedded.client.post("/api/spans", json={"sound": sound, "classifier": classifier, "threshold": 0.5}).json()
    assert (found["seconds"], found["total"]) == (2.0, 5.0)


@pytest.mark.parametrize(("kind", "begin_with"), [("csv", "path,start"), ("raven", "Selection\t"), ("audacity", "")])
def test_detections_are_exported(embedded: Served, kind: str, begin_with: str) -> None:
    state = begin(embedded)
    for _ in range(EVERY):
        state = answer(embedded, state)
    saved = embedded.client.post("/api/labels/save").json()
    sound = embedded.ids()["low/low 11.wav"]
    asked = {"sound": sound, "classifier": saved["folder"], "threshold": 0.01, "format": kind}
    response = embedded.client.post("/api/spans/export", json=asked)
    assert response.status_code == 200 and "attachment" in response.headers["content-disposition"]
    assert response.text.startswith(begin_with) and "low" in response.text and "/tmp" not in response.text
    if kind == "csv":
        (row,) = csv.DictReader(io.StringIO(response.text))
        assert row["path"] == "low/low 11.wav" and float(row["end"]) <= 1.0


def test_unknown_classifiers_and_files_are_refused(embedded: Served) -> None:
    sound = embedded.ids()["low/low 00.wav"]
    for name in ("none", "../secret", "..", "/etc"):
        response = embedded.client.post("/api/spans", json={"sound": sound, "classifier": name})
        assert response.status_code == 422 and "no classifier" in response.json()["detail"]
    begin(embedded)
    asked = {"name": "low", "sound": "f00", "answer": "yes"}
    assert embedded.client.post("/api/labels/answer", json=asked).status_code == 422
    asked = {"name": "never begun", "sound": sound, "answer": "yes"}
    assert embedded.client.post("/api/labels/answer", json=asked).status_code == 422
    for name in ("", " ", "a|b", "not low", "a\nb"):
        assert embedded.client.post("/api/labels", json={"name": name}).status_code == 422, name


@pytest.mark.parametrize(
    "text",
    ["path,label,split\nlow/low 00.wav,a,train\n", "path,label\nelsewhere.wav,a\n", "path,label\n{low},a\n{high},b\n"],
)
def test_a_table_of_others_is_not_replaced(embedded: Served, served_folder, text: str) -> None:
    names = {"low": served_folder / "low/low 00.wav", "high": served_folder / "high/high 00.wav"}
    embedded.bench.labels.write_text(text.format(**names))
    with pytest.raises(DataError, match="was not written by this page"):
        LabelFile(embedded.bench.labels, embedded.bench.files)
    assert embedded.client.get("/api/labels").status_code == 422
