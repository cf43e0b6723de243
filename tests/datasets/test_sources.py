"""Fetching, with a stub in place of the package manager."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.data.manifest import pretraining_rows, read_manifest
from unheard.datasets import telephone_codecs
from unheard.datasets.packages import TIERS, domain, packages
from unheard.datasets.sources import fetch
from unheard.errors import DataError, UnheardError

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds Debian packages")


def tone(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(8000 * seconds))), 8000)


def build(package: str, tree: Path, store: Path) -> None:
    """Make a real package of ``tree`` in ``store``."""
    control = tree / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {package}\nVersion: 1.2-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription:"
        " test\n"
    )
    subprocess.run(["dpkg-deb", "-b", tree, store / f"{package}_1.2-3_all.deb"], check=True, capture_output=True)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that ``apt-get download`` copies from."""
    folder, programs = tmp_path / "store", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text(
        f'#!/bin/sh\ncp "{folder}/$2"_*.deb . 2>/dev/null || {{ echo "E: Unable to locate package $2" >&2; exit 100;'
        " }\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    tree = tmp_path / "hedgewars"
    sounds = tree / "usr/share/games/hedgewars/Data/Sounds"
    tone(sounds / "voices/Pirate/Hello.wav", 0.5)
    tone(sounds / "explosion.wav", 0.25)
    tone(sounds / "silence/1.wav")
    (sounds / "broken.ogg").write_text("not a sound")
    tone(sounds / "empty.wav", 0.0)
    (sounds / "readme.txt").write_text("words")
    (sounds / "link.wav").symlink_to("explosion.wav")
    build("hedgewars-data", tree, folder)
    tree = tmp_path / "ufoai"
    tone(tmp_path / "boom.wav")
    archive = tree / "usr/share/games/ufoai/base/0snd.pk3"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "boom.wav", "sound/weapons/boom.wav")
        file.writestr("sound/notes.txt", "words")
    build("ufoai-sound", tree, folder)
    return folder


@needs_dpkg
def test_unpacks_sounds_alone_and_says_where_each_came_from(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = fetch("hedgewars-data", out)
    rows = read_manifest(out)
    prefix = "hedgewars-data/hedgewars/Data/Sounds/"
    assert [row["path"] for row in rows] == [prefix + "explosion.wav", prefix + "voices/Pirate/Hello.wav"]
    assert [row["domain"] for row in rows] == ["effects", "speech"]
    assert [row["seconds"] for row in rows] == ["0.2500", "0.5000"]
    assert {row["version"] for row in rows} == {"1.2-3"}
    assert rows[0]["member"] == "usr/share/games/hedgewars/Data/Sounds/explosion.wav"
    for row in rows:
        assert hashlib.sha256((out / row["path"]).read_bytes()).hexdigest() == row["sha256"]
    assert report.skipped == {
        prefix + "broken.ogg": "libsndfile cannot read it",
        prefix + "empty.wav": "it holds no samples",
    }
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "Hello.wav",
        "explosion.wav",
        "manifest.csv",
    ]
    assert any("broken.ogg" in line for line in report.lines())
    assert report.to_json()["files"] == 2


@needs_dpkg
def test_files_that_tasks_test_on_are_held_out(store: Path, tmp_path: Path) -> None:
    fetch("hedgewars-data", tmp_path / "out")
    rows = read_manifest(tmp_path / "out")
    assert rows[1]["heldout"] == "1"  # a voice of the vocal-type test split
    assert [row["path"] for row in pretraining_rows(rows)] == [row["path"] for row in rows if not row["heldout"]]


@needs_dpkg
def test_opens_game_archives(store: Path, tmp_path: Path) -> None:
    fetch("ufoai-sound", tmp_path / "out")
    (row,) = read_manifest(tmp_path / "out")
    assert row["path"] == "ufoai-sound/sound/weapons/boom.wav"
    assert row["member"] == "usr/share/games/ufoai/base/0snd.pk3!sound/weapons/boom.wav"
    assert (tmp_path / "out" / row["path"]).is_file()


@needs_dpkg
def test_a_second_fetch_adds_and_leaves_what_is_there_alone(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch("hedgewars-data", out)
    (out / "hedgewars-data/hedgewars/Data/Sounds/explosion.wav").unlink()
    assert fetch("hedgewars-data", out).already == ["hedgewars-data"]
    assert fetch("ufoai-sound", out).files == 3
    assert not (out / "hedgewars-data/hedgewars/Data/Sounds/explosion.wav").exists()


@needs_dpkg
def test_packages_that_fail_are_named_and_the_others_kept(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 of 6 packages .*klettres-data: .*Unable to locate package klettres-data"):
        fetch("S", tmp_path / "out")
    assert [row["package"] for row in read_manifest(tmp_path / "out")] == ["ufoai-sound"]


def test_says_what_a_system_without_the_package_manager_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="needs apt-get"):
        fetch("S", tmp_path / "out")


def test_only_known_packages_are_fetched(tmp_path: Path) -> None:
    for name, hint in {
        "bash": "choose S, M, L, soundfonts, or one of 48 packages such as",
        "s": r"did you mean S\?",
    }.items():
        with pytest.raises(DataError, match=f"there is no corpus '{name}'; {hint}"):
            fetch(name, tmp_path)
    with pytest.raises(DataError, match="did you mean hydrogen-drumkits"):
        fetch("hydrogen-drumkit", tmp_path)
    assert packages("scratch") == ("scratch",)
    assert set(TIERS["S"]) < set(TIERS["M"]) < set(TIERS["L"])


@pytest.mark.parametrize(
    ("package", "member", "expected"),
    [
        ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps/animals/cow_desc_fr.ogg", "speech"),
        ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps/animals/cow.ogg", "effects"),
        ("qabcs-data", "usr/share/qabcs/abcs/all/noises/cow.ogg", "effects"),
        ("qabcs-data", "usr/share/qabcs/abcs/de/sounds/words/kuh.ogg", "speech"),
        ("asterisk-moh-opsound-g722", "usr/share/asterisk/moh/a.g722", "music"),
        ("ufoai-music", "usr/share/games/ufoai/base/0music.pk3!music/a.ogg", "music"),
        ("hedgewars-data", "usr/share/games/hedgewars/Data/Music/Nature.ogg", "music"),
        ("colobot-common-sounds", "usr/share/games/colobot/music/Prototype.ogg", "music"),
        ("wesnoth-1.16-data", "usr/share/games/wesnoth/1.16/data/core/sounds/axe.ogg", "effects"),
    ],
)
def test_domains(package: str, member: str, expected: str) -> None:
    assert domain(package, member) == expected


def test_telephone_codecs_become_wav_of_the_right_length(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    found = {}
    for name, data in (("a.g722", bytes(4000)), ("b.g722", bytes(range(256)) * 8), ("c.gsm", b"\xd2" + bytes(32))):
        (tmp_path / name).write_bytes(data)
        found[f"p/{name}"] = (name, tmp_path / name)
    converted = telephone_codecs.to_wav(found, {})
    lengths = {
        path: (soundfile.info(source).frames, soundfile.info(source).samplerate)
        for path, (_, source) in converted.items()
    }
    assert lengths == {"p/a.wav": (8000, 16000), "p/b.wav": (4096, 16000), "p/c.wav": (160, 8000)}


def test_a_file_decodes_the_same_whatever_was_decoded_before_it(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    data = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    paths = [tmp_path / f"{name}.g722" for name in ("alone", "loud", "after")]
    for path, content in zip(paths, (data, data[::-1], data), strict=True):
        path.write_bytes(content)
    telephone_codecs._decode_g722(paths[:1])
    telephone_codecs._decode_g722(paths[1:])
    assert paths[2].with_suffix(".wav").read_bytes() == paths[0].with_suffix(".wav").read_bytes()


def test_without_a_decoder_its_files_are_skipped_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(paths: object) -> None:
        raise UnheardError("install it with: pip install 'unheard[fetch]'")

    monkeypatch.setattr(telephone_codecs, "_decode_g722", lacking)
    (tmp_path / "a.g722").write_bytes(bytes(100))
    skipped: dict[str, str] = {}
    assert telephone_codecs.to_wav({"p/a.g722": ("a.g722", tmp_path / "a.g722")}, skipped) == {}
    assert "pip install" in skipped["p/a.g722"]
