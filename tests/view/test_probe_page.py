"""A probe from a table to a page: the page is complete and needs no network; an error of a table names its row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from unheard import api
from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError, DamageWarning, DataError, UnheardError
from unheard.evaluation.probe.report import ProbeReport
from unheard.files import write_json
from unheard.progress import Track
from unheard.view import probe_figures
from unheard.view.probe_sounds import embedded
from unheard.weights.built_in import reinitialised
from unheard.weights.checkpoint import SavedModel

RATE = 16000


def tone(path: Path, hertz: float, seconds: float = 0.3) -> None:
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * noise, RATE)


def remembering(lines: list[str]) -> Track:
    """Progress that records the descriptions."""

    def track(items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        lines.append(description)
        yield from items

    return track


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def model() -> Model:
    return api.load("random-tiny")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    rows: list[dict[str, object]] = []
    for number in range(24):
        kind = ("low", "mid </script>", "high")[number % 3]
        tone(folder / f"{number:02d}x.wav", (200, 800, 3000)[number % 3] * (1 + number / 100))
        rows.append(
            {
                "path": f"{number:02d}x.wav",
                "label": kind,
                "split": "test" if number >= 12 else "train",
                "group": f"g{number // 2}",
            }
        )
    return write_rows(folder / "labels.csv", rows)


@pytest.fixture(scope="module")
def probed(model: Model, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProbeReport, Path]:
    out = tmp_path_factory.mktemp("probe") / "out"
    return api.probe(model, labels, out, seeds=1, layers="all"), out


def test_one_command_writes_a_page_figures_and_tables(probed: tuple[ProbeReport, Path]) -> None:
    report, out = probed
    tables = {f"{name}.csv" for name in ("scores", "classes", "confusion", "predictions", "curve", "layers", "map")}
    figures = {f"{name}.png" for name in ("probe", "confusion", "curve", "layers", "map")}
    assert {path.name for path in out.iterdir()} == {
        "report.html",
        "probe.json",
        "probe.md",
        "vectors",
    } | tables | figures
    assert {score.embedding for score in report.scores} == {
        "model",
        "random encoder",
        "log-mel mean+std",
        "learned layer weights",
    }
    assert {score.head for score in report.scores} == {"linear", "knn", "mlp"}
    assert len(report.layers) == 12 and sum(row.weight for row in report.layers) == pytest.approx(1, abs=1e-4)
    last = next(s for s in report.scores if (s.embedding, s.head, s.metric) == ("model", "linear", report.metric))
    assert report.layers[-1].mean == pytest.approx(last.mean)


def test_the_page_is_one_file_that_says_what_to_know(probed: tuple[ProbeReport, Path]) -> None:
    report, out = probed
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)='?https?://", page) and page.count("data:image/png") == 4
    assert "Scores are of one run." in page
    for words in ("Per-class results", "Learning curve", "linear head, compared with the random encoder", "Caveats"):
        assert words in page
    (data,) = re.findall(r"<script type=application/json id=map-data>(.*?)</script>", page)
    lines = json.loads(data)
    assert len(lines["points"]) == 24 and set(lines["classes"]) == {"low", "mid </script>", "high"}
    assert all(point["sound"].startswith("data:audio/") for point in lines["points"])
    assert sum(point["predicted"] != "" for point in lines["points"]) == report.tested == 12


def test_the_page_has_every_verdict_of_the_terminal(probed: tuple[ProbeReport, Path], tmp_path: Path) -> None:
    for file in probed[1].glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stored = json.loads((tmp_path / "probe.json").read_text())
    for row in stored["differences"]:
        if (row["head"], row["other"]) == ("mlp", "random encoder"):
            row |= {"mean": -0.099, "low": -0.156, "high": -0.046, "p": 0.0004}
    write_json(tmp_path / "probe.json", {name: value for name, value in stored.items() if name != "content_sha256"})
    page = api.report(tmp_path).read_text()
    assert (
        "mlp head, compared with the random encoder: <b>worse</b> (-0.099, 95 % interval -0.156 to -0.046, p &lt;"
        " 0.001)." in page
    )
    for head in ("linear", "knn", "mlp"):
        for other in ("random encoder", "log-mel mean+std"):
            assert f"{head} head, compared with the {other}: <b>" in page
    assert "range over the seeds" not in page  # there is one


def test_the_page_can_be_written_again_without_the_sounds(
    model: Model, probed: tuple[ProbeReport, Path], tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in probed[1].iterdir():
        if file.is_file() and file.name != "report.html":
            (copied / file.name).write_bytes(file.read_bytes())
    (copied / "map.csv").write_text((copied / "map.csv").read_text().replace("tones", "gone"))
    page = api.report(copied)
    assert page == copied / "report.html" and "0 sounds are stored in this page" in page.read_text()
    (copied / "curve.png").unlink()
    with pytest.raises(DataError, match="curve.png.*probe again"):
        api.report(copied)
    (copied / "probe.json").write_text("{}")
    with pytest.raises(DataError, match="probe again"):
        api.report(copied)
    with pytest.raises(CheckpointError, match="there is no run at"):
        api.report(tmp_path)


def test_parts_of_files_with_several_labels_in_folds(model: Model, tmp_path: Path) -> None:
    time = np.arange(8 * RATE) / RATE
    waves = {name: np.sin(2 * np.pi * hertz * time) for name, hertz in (("a", 300), ("b", 2500))}
    rows: list[dict[str, object]] = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", 0.2 * waves["a"] + 0.2 * waves["b"] * (time > 4), RATE)
        rows += [
            {
                "path": f"{number}.wav",
                "start": at,
                "end": at + 0.5,
                "label": "a|b" if at >= 4 else "a",
                "fold": number % 2,
            }
            for at in (0, 1, 2, 5, 6, 7)
        ]
    report = api.probe(model, write_rows(tmp_path / "labels.csv", rows), tmp_path / "out", seeds=1)
    assert report.metric == "mAP" and not report.confusion and report.tested == 24
    assert any("are from files with the same bytes as training files" in warning for warning in report.warnings)
    assert {row.average_precision is not None for row in report.per_class} == {True}


BAD: dict[str, tuple[list[dict[str, object]], str]] = {
    "no label column": ([{"path": "0.wav", "class": "a"}], "lacks the column label"),
    "missing audio": ([{"path": "0.wav", "label": "a"}, {"path": "none.wav", "label": "b"}], "the first none.wav"),
    "no sound": (
        [{"path": name, "label": name} for name in ("0.wav", "1.wav", "labels.csv")] * 2,
        "row 4: .*labels.csv: a table or text",
    ),
    "empty file": (
        [{"path": name, "label": name} for name in ("0.wav", "empty.wav")] * 2,
        "2 of 4 clips .* row 3: .*empty.wav: holds no",
    ),
    "starts late": (
        [{"path": f"{i % 2}.wav", "label": i % 2, "start": 9 * (i > 1)} for i in range(4)],
        "row 4: starts at 9 s, but .* lasts 0.300 s",
    ),
    "ends early": (
        [{"path": f"{i % 2}.wav", "label": i % 2, "start": 0.2, "end": 0.1} for i in range(4)],
        "row 2 ends at 0.1 s, which is not after",
    ),
    "one clip of a class": (
        [{"path": f"{i % 2}.wav", "label": int(i == 0), "start": i / 100} for i in range(4)],
        "class '1' has 1 clip; it needs two",
    ),
    "one class to test": (
        [{"path": f"{i % 2}.wav", "label": i % 2, "split": "test" if i in (1, 3) else "train"} for i in range(6)],
        "all 2 tested clips are '1'",
    ),
    "class never taught": (
        [
            {"path": f"{i % 2}.wav", "label": "abcd"[i], "split": "test" if i > 1 else "train", "start": i / 100}
            for i in range(4)
        ],
        "missing from the training clips: c, d",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_by_name_before_anything_is_embedded(model: Model, tmp_path: Path, case: str) -> None:
    tone(tmp_path / "0.wav", 300)
    tone(tmp_path / "1.wav", 900)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    rows, message = BAD[case]

    def track(items: object, total: int, description: str) -> object:
        assert "embedding" not in description
        yield from items  # type: ignore[misc]

    with pytest.raises(UnheardError, match=message):
        api.probe(model, write_rows(tmp_path / "labels.csv", rows), tmp_path / "out", seeds=1, track=track)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_reported_before_anything_is_embedded(
    model: Model, labels: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    with pytest.raises(DataError, match=r"cannot write the probe's report to .*file/out.*; choose another -o"):
        api.probe(model, labels, tmp_path / "file" / "out", seeds=1, track=remembering(lines))
    assert not any("embedding" in line for line in lines)


def test_a_probe_that_was_interrupted_embeds_nothing_twice(model: Model, labels: Path, tmp_path: Path) -> None:
    def interrupted(items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        if description == "probe":
            raise KeyboardInterrupt
        yield from items

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        api.probe(model, labels, out, head="linear", seeds=1, track=interrupted)
    lines: list[str] = []
    report = api.probe(model, labels, out, head="linear", seeds=1, overwrite=True, track=remembering(lines))
    assert "probe" in lines and not any("embedding" in line or "log-mel" in line for line in lines)
    assert report == api.probe(model, labels, tmp_path / "fresh", head="linear", seeds=1)


def test_vectors_of_another_making_are_made_again(model: Model, labels: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "out", list[str]()
    api.probe(model, labels, out, head="knn", seeds=1)
    (out / "vectors" / "random-0.npy").write_bytes(b"damaged")
    with pytest.warns(DamageWarning, match="random-0.npy is damaged"):
        api.probe(model, labels, out, head="knn", seeds=2, overwrite=True, track=remembering(lines))
    assert [line for line in lines if "embedding" in line] == [
        f"embedding (random encoder, seed {seed})" for seed in (0, 1)
    ]
    lines.clear()
    api.probe(model, labels, out, head="knn", seeds=1, pool="max", overwrite=True, track=remembering(lines))
    assert sum("embedding" in line for line in lines) == 2
    lines.clear()
    other = Model(reinitialised(SavedModel(model.learner, model.config, model.statistics, model.provenance), seed=7))
    api.probe(other, labels, out, head="knn", seeds=1, pool="max", overwrite=True, track=remembering(lines))
    assert sum("embedding" in line for line in lines) == 2


def test_many_classes_show_their_commonest_confusions() -> None:
    counts = (np.eye(60, dtype=int) * 5).tolist()
    counts[3][7], counts[50][2] = 9, 4
    names = [f"c{k}" for k in range(60)]
    report = ProbeReport(names, 300, 313, "accuracy", {"accuracy": 0.1}, [], confusion=counts)
    shown = [label.get_text() for label in probe_figures.confusions(report).axes[0].get_yticklabels()]
    assert shown == ["c3 predicted as c7", "c50 predicted as c2"]


def test_sounds_stop_where_the_page_would_grow_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone(tmp_path / "a.wav", 440, seconds=5.0)
    clips = [(number, tmp_path / "a.wav", None, None) for number in range(4)]
    one = len(embedded(clips[:1])[0])
    assert one < 40_000  # three seconds
    monkeypatch.setattr("unheard.view.probe_sounds.MOST_BYTES", int(2.5 * one))
    assert sorted(embedded(clips)) == [0, 1]
    assert embedded([(0, tmp_path / "gone.wav", None, None)]) == {}
