"""Detections as files: the readers of annotations return what was written, and unclear outputs are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.finetuning.spans.made import ToneClassifier, write_tones

import unheard
from unheard.data.label_table import read_labels
from unheard.data.selections.reading import label_columns, read_selections
from unheard.errors import ConfigError, DataError
from unheard.files import verify_folder
from unheard.finetuning.spans.merging import Span

PARTS = {"night/a.wav": [(2.0, 4.0, "low"), (6.0, 7.5, "high")], "night/b.wav": [], "day/a.wav": [(1.0, 3.0, "low")]}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, parts in PARTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_tones(folder / name, 10.0, parts)
    return folder


def detect(recordings: Path, out: Path, **options: object) -> list[Span]:
    files = [recordings / name for name in PARTS]
    return unheard.detect(ToneClassifier(), files, out, **options).spans  # type: ignore[arg-type]


def by_recording(spans: list[Span]) -> list[tuple[Path, float, float, str]]:
    return sorted((Path(span.path).resolve(), span.start, span.end, span.label) for span in spans)


def read_back(table: Path) -> list[tuple[Path, float, float, str]]:
    selections = read_selections(table)
    return sorted(
        ((selections.folder / path).resolve(), each.start, each.end, each.label)
        for path, annotations in selections.annotations.items()
        for each in annotations
    )


def test_a_selection_table_of_raven_is_read_back(recordings: Path, tmp_path: Path) -> None:
    spans = detect(recordings, tmp_path / "spans.txt")
    assert len(spans) == 3
    assert read_back(tmp_path / "spans.txt") == by_recording(spans)
    header, *rows = [line.split("\t") for line in (tmp_path / "spans.txt").read_text().splitlines()]
    assert [row[header.index("Begin File")] for row in rows] == ["a.wav", "a.wav", "a.wav"]
    begins = [float(row[header.index("Begin Time (s)")]) for row in rows]
    offsets = [float(row[header.index("File Offset (s)")]) for row in rows]
    assert [begin - offset for begin, offset in zip(begins, offsets, strict=True)] == [0, 0, 20]
    assert list(verify_folder(tmp_path)) == []


def test_a_table_is_a_labels_csv(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    spans = detect(recordings, tmp_path / "out" / "spans.csv")
    assert (tmp_path / "out" / "spans.csv").read_text().splitlines()[0] == "path,start,end,label,score"
    folder, columns = label_columns(tmp_path / "out" / "spans.csv", ("path", "label"), ("start", "end"))
    rows = zip(columns["path"], columns["start"], columns["end"], columns["label"], strict=True)
    found = sorted(((folder / path).resolve(), float(start), float(end), label) for path, start, end, label in rows)
    assert found == by_recording(spans)
    assert read_labels(tmp_path / "out" / "spans.csv").classes == ["high", "low"]


def test_label_files_of_audacity_lie_in_a_folder(recordings: Path, tmp_path: Path) -> None:
    spans = detect(recordings, tmp_path / "labels")
    names = sorted(path.relative_to(tmp_path / "labels").as_posix() for path in (tmp_path / "labels").rglob("*.txt"))
    assert names == ["day/a.wav.txt", "night/a.wav.txt", "night/b.wav.txt"]
    for name in names:
        (recordings / name).write_bytes((tmp_path / "labels" / name).read_bytes())
    try:
        assert read_back(recordings) == by_recording(spans)
    finally:
        for name in names:
            (recordings / name).unlink()
    assert list(verify_folder(tmp_path)) == []


def test_one_recording_gives_one_label_file(recordings: Path, tmp_path: Path) -> None:
    report = unheard.detect(ToneClassifier(), recordings / "night/a.wav", tmp_path / "a.txt", format="audacity")
    assert (tmp_path / "a.txt").read_text() == "".join(f"{s.start:g}\t{s.end:g}\t{s.label}\n" for s in report.spans)
    with pytest.raises(ConfigError, match="holds one recording, and there are 3; give a folder"):
        detect(recordings, tmp_path / "all.txt", format="audacity")
    assert not (tmp_path / "all.txt").exists()


@pytest.mark.parametrize(("name", "options"), [("spans.json", {}), ("spans.csv", {"format": "raven"})])
def test_another_suffix_is_refused(recordings: Path, tmp_path: Path, name: str, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no known suffix|does not fit"):
        detect(recordings, tmp_path / name, **options)


def test_a_folder_of_others_is_never_replaced(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        detect(recordings, tmp_path / "photos")
    with pytest.raises(ConfigError, match="a folder that no detection wrote"):
        detect(recordings, tmp_path / "photos", overwrite=True)


def test_an_edited_output_is_not_continued(recordings: Path, tmp_path: Path) -> None:
    detect(recordings, tmp_path / "spans.csv")
    (tmp_path / "spans.csv").write_text("path,start,end,label,score\n")
    with pytest.raises(DataError, match="differs from its checksum"):
        detect(recordings, tmp_path / "spans.csv", resume=True)
