"""Annotations of Raven and Audacity: read next to their recordings, imported with negatives, refused when unclear."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.data.tables import read_csv
from unheard.datasets.selections import import_selections
from unheard.embedding.segments import read_segments
from unheard.errors import AudioWarning, DataError

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"


def _recording(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, int(8000 * seconds)), 8000)
    return path


def _raven(path: Path, *rows: tuple[float, float, str]) -> Path:
    """Write a table as Raven does: a selection has a row for the waveform and one for the spectrogram."""
    text = RAVEN
    for number, (start, end, label) in enumerate(rows, start=1):
        for view in ("Waveform 1", "Spectrogram 1"):
            text += f"{number}\t{view}\t1\t{start:.9f}\t{end:.9f}\t100.0\t3000.0\t{label}\n"
    path.write_text(text)
    return path


@pytest.fixture
def raven(tmp_path: Path) -> Path:
    """Two recordings of 20 s with their tables; one in a folder below."""
    for name in ("a/one", "two"):
        _recording(tmp_path / f"{name}.wav", 20)
    _raven(tmp_path / "a/one.Table.1.selections.txt", (1, 3, "frog"), (5, 6.5, "bird"))
    _raven(tmp_path / "two.selections.txt", (2, 4, "frog"), (10.25, 12, "bird"))
    (tmp_path / "notes.txt").write_text("Recorded at the pond.\n")
    return tmp_path


def test_a_folder_of_raven_tables_is_a_labelled_table(raven: Path) -> None:
    labels = read_labels(raven)
    assert [str(path.relative_to(raven)) for path in labels.paths] == ["a/one.wav", "a/one.wav", "two.wav", "two.wav"]
    assert (labels.start, labels.end) == ([1, 5, 2, 10.25], [3, 6.5, 4, 12])
    assert [labels.classes[k] for k in labels.index] == ["frog", "bird", "frog", "bird"]
    assert labels.group == ["a/one.wav", "a/one.wav", "two.wav", "two.wav"]
    assert len(labels.sound(3)[0][0]) == 14000
    rows = read_segments(raven / "two.selections.txt")
    assert [(Path(row.path).name, row.start, row.end) for row in rows] == [("two.wav", 2, 4), ("two.wav", 10.25, 12)]


def test_the_import_writes_times_and_background(raven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = raven / "out/labels.csv"
    assert main(["data", "import", "raven", str(raven), "-o", str(out), "--background"]) == 0
    assert "4 annotations of 2 classes in 2 recordings, 4 background" in capsys.readouterr().out
    rows = read_csv(out, ("path", "start", "end", "label", "group"))
    assert (rows[3]["path"], rows[3]["start"], rows[3]["end"]) == ("../two.wav", "10.25", "12")
    annotated = [(row["path"], float(row["start"]), float(row["end"])) for row in rows[:4]]
    for row in rows[4:]:
        start, end = float(row["start"]), float(row["end"])
        assert row["label"] == "background"
        assert end - start == pytest.approx(1.875)  # the median length
        assert 0 <= start and end <= 20
        assert all(path != row["path"] or end <= first or start >= last for path, first, last in annotated)
    assert {row["path"] for row in rows[4:]} == {"../a/one.wav", "../two.wav"}
    assert read_labels(out).classes == ["background", "bird", "frog"]
    assert main(["data", "import", "raven", str(raven), "-o", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_audacity_files_with_frequencies_and_several_labels(tmp_path: Path) -> None:
    _recording(tmp_path / "pond.flac", 9)
    _recording(tmp_path / "empty.flac", 9)
    lines = ["0,500000\t2,500000\tfrog", "\\\t300.0\t2000.0", "0.5\t2.5\tbird", "6.000000\t8.000000\tbird"]
    (tmp_path / "pond_labels.txt").write_text("\n".join(lines) + "\n")
    report = import_selections("audacity", tmp_path, tmp_path / "labels.csv", background=True)
    assert (report.annotations, report.classes, report.background, report.grouped) == (2, 2, 1, False)
    assert "one recording only" in report.lines()[1]
    labels = read_labels(tmp_path / "labels.csv")
    assert labels.multilabel
    assert labels.target[:].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert labels.annotated().all()  # the background is known to have neither
    assert (labels.start[2], labels.end[2]) == (2.5, 4.5)


def test_a_recording_below_the_folder_comes_before_one_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _recording(tmp_path / "set/sounds/first.wav", 5)
    other = _recording(tmp_path / "here/first.wav", 5)
    table = tmp_path / "set/all.txt"
    table.write_text(
        "Begin Time (s)\tEnd Time (s)\tAnnotation\tBegin File\tFile Offset (s)\n1\t2\tWren\tfirst.wav\t1\n"
    )
    monkeypatch.chdir(other.parent)
    assert [path.resolve() for path in read_labels(table, least=1).paths] == [tmp_path / "set/sounds/first.wav"]


def test_labels_of_audacity_below_a_header_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _recording(tmp_path / f"{name}.wav", 5)
        (tmp_path / f"{name}.txt").write_text("1.0\t2.0\tfrog\n3.0\t4.0\tbird\n")
    (tmp_path / "two.txt").write_text("start\tend\tlabel\n1.0\t2.0\tfrog\n3.0\t4.0\tbird\n")
    with pytest.warns(AudioWarning, match=r"two\.txt is left out: .* not in its first line; remove that line"):
        labels = read_labels(tmp_path)
    assert {path.name for path in labels.paths} == {"one.wav"}


def test_tables_that_name_their_recordings(tmp_path: Path) -> None:
    for name in ("first", "second"):
        _recording(tmp_path / f"sounds/{name}.wav", 5)
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tBegin Path\tFile Offset (s)\n"
    rows = "1\t1\t2\tWren\tC:\\rec\\first.wav\t1\n2\t7\t8.5\tRobin\tC:\\rec\\second.wav\t2\n"
    (tmp_path / "all.txt").write_text(header + rows)
    labels = read_labels(tmp_path / "all.txt")
    assert [path.name for path in labels.paths] == ["first.wav", "second.wav"]
    assert (labels.start, labels.end, labels.classes) == ([1, 2], [2, 3.5], ["Robin", "Wren"])
    (tmp_path / "all.txt").write_text((header + rows).replace("\tFile Offset (s)", "\tOther"))
    with pytest.raises(DataError, match=r"names 2 recordings, but lacks the column 'File Offset \(s\)'"):
        read_labels(tmp_path / "all.txt")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("raven", RAVEN.replace("Annotation", "Notes") + "1\tW\t1\t1\t2\t0\t1\tfrog\n", "choose one of its columns"),
        ("raven", RAVEN + "1\tW\t1\t3\t2\t0\t1\tfrog\n", "line 2 ends at 2 s, which is not after its start at 3 s"),
        ("raven", RAVEN + "1\tW\t1\t1\t2\t0\t1\t\n", "line 2 has no label"),
        ("raven", RAVEN + "1\tW\t1\tx\t2\t0\t1\tfrog\n", "the start is 'x'; give a number of seconds"),
        ("raven", RAVEN + "1\tW\t1\t90\t92\t0\t1\tfrog\n", "lasts 20 s, but its table has 'frog' at 90 s"),
        ("raven", RAVEN.replace("End Time (s)", "End"), "lacks the column 'End Time"),
        ("raven", RAVEN, "has no annotations"),
        ("raven", "hello\n", "is not a selection table of Raven"),
        ("audacity", RAVEN, "is not a label file of Audacity"),
        ("audacity", "1.0\t1.0\tfrog\n", "line 1 is a point at 1 s"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, kind: Literal["raven", "audacity"], text: str, message: str
) -> None:
    _recording(tmp_path / "pond.wav", 20)
    (tmp_path / "pond.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        import_selections(kind, tmp_path / "pond.txt", tmp_path / "labels.csv")


def test_a_table_without_its_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "pond.txt").write_text("1\t2\tfrog\n")
    with pytest.raises(DataError, match=r"pond.txt: no recording is known for it: none fits"):
        read_labels(tmp_path)
    _recording(tmp_path / "pond.wav", 5)
    _recording(tmp_path / "pond.flac", 5)
    with pytest.raises(DataError, match=r"pond.flac and pond.wav both fit"):
        read_labels(tmp_path)
    (tmp_path / "pond.txt").rename(tmp_path / "pond.wav.txt")
    assert [path.name for path in read_labels(tmp_path, least=1).paths] == ["pond.wav"]


def test_background_needs_free_time_and_a_free_name(tmp_path: Path) -> None:
    _recording(tmp_path / "pond.wav", 5)
    (tmp_path / "pond.txt").write_text("0\t5\tfrog\n")
    with pytest.raises(DataError, match="nothing of at least 0.1 s between the annotations is free"):
        import_selections("audacity", tmp_path, tmp_path / "labels.csv", background=True)
    (tmp_path / "pond.txt").write_text("0\t1.5\tfrog\n2\t5\tfrog\n")  # no gap is as long as the annotations
    import_selections("audacity", tmp_path, tmp_path / "gap.csv", background=True)
    assert read_csv(tmp_path / "gap.csv", ("start", "end", "label"))[-1] == {
        "path": "pond.wav", "start": "1.5", "end": "2", "label": "background"
    }  # fmt: skip
    (tmp_path / "pond.txt").write_text("0\t1\tbackground\n")
    with pytest.raises(DataError, match="leave --background out"):
        import_selections("audacity", tmp_path, tmp_path / "labels.csv", background=True)
    assert main(["data", "import", "esc50", str(tmp_path), "-o", str(tmp_path / "x.csv"), "--background"]) == 2


def test_a_labels_csv_may_be_called_txt(tmp_path: Path) -> None:
    _recording(tmp_path / "a.wav", 2)
    _recording(tmp_path / "b.wav", 2)
    for name in ("labels.txt", "labels.tsv"):
        (tmp_path / name).write_text("path,label\na.wav,frog\nb.wav,bird\n")
        assert read_labels(tmp_path / name).classes == ["bird", "frog"]


def test_options_and_times_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _recording(tmp_path / f"{name}.wav", 20)
    (tmp_path / "one.txt").write_text("1.0\t2.0\tfrog\n")
    with pytest.raises(DataError, match="leave --label-column out"):
        import_selections("audacity", tmp_path, tmp_path / "l.csv", label_column="Species")
    (tmp_path / "both.selections.txt").write_text(
        "Begin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
        "1\t2\tone.wav\t1\tfrog\n21\t22\ttwo.wav\t\tfrog\n"
    )
    with pytest.raises(DataError, match=r"line 3 lacks 'File Offset \(s\)'"):
        import_selections("raven", tmp_path, tmp_path / "l.csv")
