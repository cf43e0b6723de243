"""Which names of a table are files, and which files a folder has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unheard.audio.folders import MANY, find_audio, missing_files
from unheard.errors import AudioWarning


def test_missing_names_are_those_that_are_no_files(tmp_path: Path) -> None:
    """The same answer as a check of each name, in folders that are listed and in those that are not."""
    many, few = tmp_path / "many", tmp_path / "few"
    names = [f"many/{n}.wav" for n in range(2 * MANY)] + [f"few/{n}.wav" for n in range(3)]
    for folder in (many, few, many / "9.wav"):
        folder.mkdir()
    for name in names:
        if name not in ("many/7.wav", "many/9.wav", "few/2.wav"):
            (tmp_path / name).touch()
    (many / "7.wav").symlink_to(few / "0.wav")
    (many / "8.wav").unlink()
    (many / "8.wav").symlink_to(tmp_path / "nothing")
    odd = ["many/../few/0.wav", "./many/0.wav", str(many / "1.wav"), "many//2.wav", "gone/0.wav", "many/\0.wav", ""]
    odd += [f"\0gone/{n}.wav" for n in range(2 * MANY)]
    missing = missing_files(os.fspath(tmp_path), [*names, *odd])
    assert missing == {name for name in [*names, *odd] if not (tmp_path / name).is_file()}
    assert {"many/8.wav", "many/9.wav", "few/2.wav", "gone/0.wav", ""} < missing and "many/7.wav" not in missing


def test_linked_folders_are_left_out_with_a_warning(tmp_path: Path) -> None:
    for name in ("set/a", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.wav").touch()
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(AudioWarning, match=r"1 linked folders are left out, the first .*/set/b; give each as a source"):
        found = find_audio(tmp_path / "set")
    assert found == [tmp_path / "set/a/0.wav"]
