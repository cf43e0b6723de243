"""Label tables of archives."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unheard.cli import main
from unheard.datasets.archives.table import import_archives
from unheard.errors import DataError

KEYS = {
    "a/1": {"json": {"label": "dog", "caption": "a dog\nbarks"}},
    "a/2.extra": {"json": {"labels": ["dog", "rain"], "text": ["a dog in the rain", "other"]}},
    "b/3": {"cls": 7, "txt": " seven "},
    "b/4": {"json": {"labels": [], "label": None}},
    "b/5": {},
    "b/6": {"json": {"label": ["x|y"]}},
    "b/7": {"json": "text"},
    "b/8": {"json": {"label": 0.5}},
    "c/9": {"json": {"label": 0}, "cls": 7},
}


def write_shard(path: Path, keys: dict[str, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for key, parts in keys.items():
            members = {"wav": b"sound", **{end: json.dumps(value).encode() for end, value in parts.items()}}
            members |= {"txt": parts["txt"].encode()} if "txt" in parts else {}
            for end, content in members.items():
                stem = key.split(".")[0] if end != "wav" else key
                info = tarfile.TarInfo(f"{stem}.{end}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def rows(table: Path) -> list[list[str]]:
    with table.open(newline="") as file:
        return list(csv.reader(file))


def test_webdataset(tmp_path: Path) -> None:
    """Labels and captions of all conventions; what has none, or a wrong one, is named with the reason."""
    (tmp_path / "tars").mkdir()
    write_shard(tmp_path / "tars/train-0.tar", KEYS)
    torn = write_shard(tmp_path / "tars/train-1.tar", {"9": {"json": {"label": "cat"}}, "x": {}})
    torn.write_bytes(torn.read_bytes()[:2562])
    report = import_archives("webdataset", [tmp_path / "tars"], tmp_path / "labels.csv")
    assert rows(tmp_path / "labels.csv") == [
        ["path", "label", "caption"],
        ["tars/train-0.tar/a/1.wav", "dog", "a dog barks"],
        ["tars/train-0.tar/a/2.extra.wav", "dog|rain", "a dog in the rain"],
        ["tars/train-0.tar/b/3.wav", "7", "seven"],
        ["tars/train-0.tar/b/4.wav", "", ""],
        ["tars/train-0.tar/c/9.wav", "0", ""],
        ["tars/train-1.tar/9.wav", "cat", ""],
    ]
    left = {Path(path).relative_to(tmp_path / "tars").as_posix(): reason for path, reason in report.left_out}
    for path, reason in (
        ("train-0.tar/b/5.wav", "no label, labels, caption, captions, text"),
        ("train-0.tar/b/6.wav", "label holds the name 'x|y', in which | separates labels"),
        ("train-0.tar/b/7.wav", "b/7.json holds str, not an object"),
        ("train-0.tar/b/8.wav", "label holds 0.5"),
        ("train-1.tar", "it ends in x.wav"),
    ):
        assert left.pop(path).startswith(reason)
    assert not left and (report.clips, report.labelled, report.captioned, report.classes) == (6, 5, 3, 5)


def test_parquet_with_class_names(tmp_path: Path) -> None:
    """Numbers of a ClassLabel become names; files of several splits give the column split."""
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "kind": {"dtype": "string"}}
    many = {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "Sequence"}
    sounds = [{"bytes": b"sound", "path": f"{number}.wav"} for number in range(2)]
    for name, column, values in (
        ("train-0-of-1", "label", [1, 0]),
        ("validation-0-of-1", "label", [0, None]),
        ("test-0-of-1", "labels", [[0, 1], []]),
    ):
        table = pa.table({"clip": sounds, column: values, "kind": ["x", "y"]})
        metadata = {"info": {"features": features | ({"labels": many} if column == "labels" else {})}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    report = import_archives("hf-parquet", [tmp_path], tmp_path / "labels.csv")
    assert rows(tmp_path / "labels.csv") == [
        ["path", "label", "split"],
        ["test-0-of-1.parquet/0/0.wav", "cat|dog", "test"],
        ["test-0-of-1.parquet/1/1.wav", "", "test"],
        ["train-0-of-1.parquet/0/0.wav", "dog", "train"],
        ["train-0-of-1.parquet/1/1.wav", "cat", "train"],
        ["validation-0-of-1.parquet/0/0.wav", "cat", "valid"],
    ]
    assert [Path(path).name for path, _ in report.left_out] == ["1.wav"]
    train, out = tmp_path / "train-0-of-1.parquet", tmp_path / "sub/kinds.csv"
    assert main(["data", "import", "hf-parquet", str(train), "-o", str(out), "--label-column", "kind"]) == 0
    assert rows(out)[1:] == [[f"../train-0-of-1.parquet/{n}/{n}.wav", kind] for n, kind in enumerate("xy")]


def test_an_archive_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    samples = {key: {"json": {"label": key}} for key in ("dog", "cat")}
    shard = write_shard(tmp_path / "tars/a.tar", samples)
    sources = [tmp_path / "tars", shard, tmp_path / "tars/../tars"]
    assert import_archives("webdataset", sources, tmp_path / "labels.csv").clips == 2
    assert len(rows(tmp_path / "labels.csv")) == 3


def test_archives_without_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "a.tar", {"1": {}, "2": {}})
    with pytest.raises(DataError, match="no sound has a label or a caption; the first of 2"):
        import_archives("webdataset", [tmp_path], tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"no \.parquet file"):
        import_archives("hf-parquet", [tmp_path], tmp_path / "labels.csv")
    assert main(["data", "import", "esc50", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "x.csv")]) == 2
    assert "give one folder" in capsys.readouterr().err
