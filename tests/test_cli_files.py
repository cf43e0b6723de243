"""Files that the command line does not change, and warnings about files."""

import json
import uuid

import fsspec
import numpy as np
import pytest
import soundfile

from unheard.cli import main

TABLES = [
    ["attention", "random-tiny", "a.wav", "-o", "out.png"],
    ["reconstruct", "random-tiny", "a.wav", "-o", "out.png"],
    ["reconstruct", "random-tiny", "a.wav", "-o", "new.png", "--wav", "out.wav"],
    ["figure", "masks", "random-tiny", "a.wav", "-o", "out.pdf"],
    ["compare", "one", "other", "-o", "out.html"],
    ["doctor", "--model", "model", "-o", "out.html"],
    ["export", "model", "-o", "out.onnx"],
    ["search", "table.parquet", "--like", "a.wav", "-o", "out.csv"],
    ["predict", "model", "a.wav", "-o", "out.csv"],
    ["predict", "model", "a.wav", "-o", "out.csv", "--processes", "2"],
    ["embed", "random-tiny", "a.wav", "-o", "out.parquet"],
    ["embed", "random-tiny", "a.wav", "-o", "out.csv", "--task", "1/2"],
    ["data", "import", "audacity", "recordings", "-o", "out.csv"],
    ["data", "labels", "drum-hit", "corpus", "-o", "out.csv"],
    ["data", "captions", "corpus", "-o", "out.csv"],
]
"""Commands that write a file, whose inputs are not there."""
FOLDERS = [
    ["data", "generate", "-o", "out", "--overwrite"],
    ["data", "fetch", "S", "-o", "out"],
    ["data", "tasks", "drum-hit", "--corpus", "corpus", "-o", "out", "--overwrite"],
    ["export", "model", "-o", "out", "--overwrite"],
    ["reconstruct", "random-tiny", "a.wav", "-o", "a.png", "--sounds", "out", "--overwrite"],
    ["probe", "random-tiny", "labels.csv", "-o", "out", "--overwrite"],
]
"""Commands that write a folder."""


def test_other_peoples_files_are_not_written_over(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for line in (
        ["data", "generate", "-o", str(tmp_path / "mine")],
        ["embed", "random-tiny", "x.wav", "-o", str(tmp_path / "e.csv"), "--hop", "nan"],
    ):
        assert main(line) == 2, line
    assert main(["data", "generate", "-o", str(tmp_path / "sounds"), "--clips", "12"]) == 0
    sound = next((tmp_path / "sounds").rglob("*.wav"))
    assert main(["embed", "random-tiny", str(sound), "-o", str(tmp_path / "e.csv"), "--hop", "nan"]) == 2
    assert "hop must divide" in capsys.readouterr().err
    assert main(["data", "pack", str(tmp_path / "sounds"), "-o", str(tmp_path / "sounds")]) == 2
    assert "choose an empty folder" in capsys.readouterr().err
    assert main(["attention", "random-tiny", str(tmp_path / "sounds"), "-o", str(tmp_path / "a.png")]) == 2
    assert "is a folder; give one sound file" in capsys.readouterr().err
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"


def test_many_truncated_files_are_counted_instead_of_listed(tmp_path, capsys):
    for number in range(9):
        file = tmp_path / "sounds" / f"{number}.wav"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, np.random.default_rng(number).uniform(-0.1, 0.1, 4000 + number), 16000)
        file.write_bytes(file.read_bytes()[:-2000])
    assert main(["embed", "random-tiny", str(tmp_path / "sounds"), "-o", str(tmp_path / "e.csv"), "--json"]) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("warning:")]
    assert len(lines) == 6
    assert lines[-1].startswith("warning: 4 more files: it is truncated: its header declares N bytes")
    assert len(json.loads(printed.out)["warnings"]) == 9


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_a_folder_in_the_place_of_a_file_is_refused_first(command, overwrite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = next(word for word in command if word.startswith("out."))
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / "a.wav").write_bytes(b"")
    assert main([*command, *overwrite]) == 2
    assert f"{name} is a folder; give the name of a file with -o" in capsys.readouterr().err
    assert (tmp_path / name / "notes.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("command", FOLDERS, ids=" ".join)
def test_a_file_in_the_place_of_a_folder_is_refused_first(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("mine")
    assert main(command) == 2
    assert "out is a file; give a folder with -o" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"], ["--task", "1/2"]])
def test_a_folder_at_the_address_of_a_table_is_refused_first(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    out = f"memory://{uuid.uuid4().hex}/t.parquet"
    with fsspec.open(f"{out}/notes.txt", "w") as file:
        file.write("mine")
    assert main(["embed", "random-tiny", str(tmp_path), "-o", out, *options]) == 2
    error = capsys.readouterr().err
    assert f"{out} is a folder; give the name of a file with -o" in error or (not options and f"{out} exists" in error)
    assert fsspec.open(f"{out}/notes.txt").fs.find(out) == [f"{out.removeprefix('memory:/')}/notes.txt"]
    assert not [path for path in (tmp_path / "cache/out").rglob("*") if path.is_file()]
