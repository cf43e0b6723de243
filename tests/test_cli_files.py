"""Files that the command line does not change, and warnings about files."""

import json

import numpy as np
import soundfile

from unheard.cli import main


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
