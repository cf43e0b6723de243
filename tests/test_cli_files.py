"""Files that the command line does not change."""

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
