"""Written files are compared with their checksums."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.embedding.bulk import embed_table
from unheard.embedding.loading import load
from unheard.embedding.verify import verify
from unheard.errors import DataError


def test_damage_of_every_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        soundfile.write(
            tmp_path / "sounds" / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 8000), 16000
        )
    assert main(["data", "pack", str(tmp_path / "sounds"), "-o", str(tmp_path / "packed")]) == 0
    embed_table(load("random-tiny"), [tmp_path / "sounds"], tmp_path / "emb.npz")
    places = [tmp_path / "packed", tmp_path / "emb.npz"]
    assert verify(places) == []
    for file in (tmp_path / "packed" / "shard-00000.bin", tmp_path / "emb.npz"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    capsys.readouterr()
    assert main(["data", "verify", *map(str, places), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["damaged"]
    assert len(found) == 2 and "shard-00000.bin" in found[0] and "emb.npz" in found[1]


def test_what_carries_no_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for place, message in (
        (tmp_path, "has a checksum"),
        (tmp_path / "a.txt", "has no checksum"),
        (tmp_path / "b", "no such"),
    ):
        with pytest.raises(DataError, match=message):
            verify([place])


def test_a_recipe_that_is_a_program_is_announced_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(
        f"import pathlib; pathlib.Path({str(marker)!r}).touch()\ndef recipe():\n    return None\n"
    )
    command = ["pretrain", str(tmp_path), "-o", str(tmp_path / "run"), "--recipe", str(tmp_path / "mine.py")]
    assert main([*command, "--no-code"]) == 2
    assert not marker.exists() and "--no-code forbids executing" in capsys.readouterr().err
    assert main(command) == 2
    assert marker.exists() and "is a Python file and is executed" in capsys.readouterr().err
