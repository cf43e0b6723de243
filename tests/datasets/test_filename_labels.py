"""Label rules on a manifest of names; no sound file is needed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.data.manifest import COLUMNS
from unheard.datasets.filename_labels import offline_labels, test_files, test_paths, write_labels
from unheard.datasets.filename_rules import TASKS
from unheard.datasets.notes import GM_TASKS
from unheard.datasets.packages import domain
from unheard.errors import DataError
from unheard.files import write_table

KITS = "hydrogen-drumkits/hydrogen/data/drumkits"
VOICES = "hedgewars-data/hedgewars/Data/Sounds/voices"
FILES = [
    f"{KITS}/ForzeeStereo/Kick-0.wav",
    f"{KITS}/ForzeeStereo/AgogoHigh-0.wav",
    f"{KITS}/ForzeeStereo/SnareOffRim-1.wav",
    f"{KITS}/BJA_Pacific/HH2_03.aiff",
    f"{KITS}/BJA_Pacific/TM_01.aiff",
    f"{KITS}/BJA_Pacific/RD_01.aiff",
    f"{KITS}/rumpf_kit_z01_h2/kick.wav",
    "hydrogen-data/hydrogen/data/drumkits/GMRockKit/Kick-Hard.wav",
    "megaglest-data/megaglest/a/archer_ack1.wav",
    "megaglest-data/megaglest/b/archer_die2.wav",
    "megaglest-data/megaglest/b/behemoth_attack1c.wav",
    "megaglest-data/megaglest/b/rain.wav",
    *(f"{VOICES}/{voice}/{phrase}.ogg" for voice in ("Pirate", "British") for phrase in ("Ow1", "Jump2", "Hello")),
    "qabcs-data/qabcs/abcs/all/noises/cow.ogg",
    "qabcs-data/qabcs/abcs/all/noises/accordion.ogg",
    "qabcs-data/qabcs/abcs/all/noises/clock.ogg",
    "tuxpaint-stamps-default/tuxpaint/stamps/animals/cow.ogg",
    "tuxpaint-stamps-default/tuxpaint/stamps/animals/cow_desc_fr.ogg",
    "tuxpaint-stamps-default/tuxpaint/stamps/symbols/math/1.ogg",
    "scratch/scratch/Media/Sounds/Percussion/Gong.wav",
]


def rows(files: list[str]) -> list[dict[str, str]]:
    def row(path: str) -> dict[str, str]:
        package, _, member = path.partition("/")
        return {
            **dict.fromkeys(COLUMNS, ""),
            "path": path,
            "package": package,
            "seconds": "60",
            "domain": domain(package, "usr/share/" + member),
        }

    return [row(path) for path in files]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_table(tmp_path / "manifest.csv", COLUMNS, rows(FILES))
    return tmp_path


def by_name(corpus: Path, task: str) -> dict[str, dict[str, str]]:
    return {Path(row["path"]).stem: row for row in offline_labels(task, corpus)}


def test_drum_hits(corpus: Path) -> None:
    found = {name: (row["label"], row["split"], row["group"]) for name, row in by_name(corpus, "drum-hit").items()}
    assert found == {
        "Kick-0": ("kick", "test", "ForzeeStereo"),
        "SnareOffRim-1": ("snare", "test", "ForzeeStereo"),
        "HH2_03": ("hat", "train", "BJA_Pacific"),
        "TM_01": ("tom", "train", "BJA_Pacific"),
        "RD_01": ("cymbal", "train", "BJA_Pacific"),
        "Kick-Hard": ("kick", "train", "GMRockKit"),
    }


def test_unit_actions_keep_a_unit_in_one_fold(corpus: Path) -> None:
    found = by_name(corpus, "unit-action")
    assert {name: row["label"] for name, row in found.items()} == {
        "archer_ack1": "voice",
        "archer_die2": "die",
        "behemoth_attack1c": "attack",
    }
    assert found["archer_ack1"]["fold"] == found["archer_die2"]["fold"] != ""
    assert found["archer_ack1"]["split"] == ""


def test_sound_kinds_are_tested_on_other_packages(corpus: Path) -> None:
    found = [(row["label"], row["split"]) for row in offline_labels("sound-kind", corpus)]
    assert sorted(found) == [
        ("animal", "test"),
        ("animal", "train"),
        ("instrument", "test"),
        ("instrument", "train"),
        ("object", "train"),
    ]


def test_voices(corpus: Path) -> None:
    vocal = {
        row["path"].split("voices/")[1]: (row["label"], row["split"]) for row in offline_labels("vocal-type", corpus)
    }
    assert vocal["Pirate/Ow1.ogg"] == ("pain", "test")
    assert vocal["British/Jump2.ogg"] == ("effort", "train")
    assert vocal["British/Hello.ogg"] == ("speech", "train")
    sides = {(row["group"], row["split"]) for row in offline_labels("voice-id", corpus)}
    assert len(sides) == 3  # a phrase is on one side, whoever says it


def test_stamps_are_split_by_stamp_over_all_languages(tmp_path: Path) -> None:
    files = [
        f"tuxpaint-stamps-default/stamps/{stamp}_desc_{tongue}.ogg"
        for stamp in "abcdefghij"
        for tongue in ("fr", "ro", "nl")
    ]
    write_table(tmp_path / "manifest.csv", COLUMNS, rows(files))
    found = offline_labels("stamp-voice", tmp_path)
    assert {row["label"] for row in found} == {"fr", "ro"}  # too few stamps are described in Dutch
    sides = {(row["group"], row["split"]) for row in found}
    assert len(sides) == 10 and {side for _, side in sides} == {"train", "test"}


def test_folds_keep_groups_whole(corpus: Path) -> None:
    for task in ("drum-hit", "voice-id", "vocal-type"):
        homes = {(row["group"], row["fold"]) for row in offline_labels(task, corpus)}
        assert len(homes) == len({group for group, _ in homes}) and "" not in {fold for _, fold in homes}


def test_tested_files_are_named(corpus: Path) -> None:
    tested = test_files(corpus)
    assert f"{KITS}/ForzeeStereo/Kick-0.wav" in tested
    assert f"{KITS}/BJA_Pacific/TM_01.aiff" in tested  # its folds test every kit once
    assert f"{KITS}/rumpf_kit_z01_h2/kick.wav" not in tested
    assert "qabcs-data/qabcs/abcs/all/noises/cow.ogg" not in tested
    assert "megaglest-data/megaglest/a/archer_ack1.wav" in tested  # scored by folds: every clip is tested once
    assert "megaglest-data/megaglest/b/rain.wav" not in tested
    assert test_paths(rows([])) == set()


def test_copies_of_a_tested_file_do_not_train_and_are_held_out(tmp_path: Path) -> None:
    files = [
        f"{KITS}/The Black Pearl 1.0/Kick-0.wav",
        f"{KITS}/GMRockKit/Kick-Hard.wav",
        f"{KITS}/GMRockKit/Kick-Soft.wav",
    ]
    files += ["sonic-pi-samples/sonic-pi/samples/bd_copy.wav"]
    table = [
        row | {"sha256": digest} for row, digest in zip(rows(files), ("same", "same", "other", "same"), strict=True)
    ]
    write_table(
        tmp_path / "manifest.csv", COLUMNS, [*table, *rows(["hydrogen-data/hydrogen/data/drumkits/GMRockKit/Tom.wav"])]
    )
    found = {Path(row["path"]).name: row for row in offline_labels("drum-hit", tmp_path)}
    assert set(found) == {"Kick-0.wav", "Kick-Soft.wav", "Tom.wav"}
    assert found["Kick-0.wav"]["fold"] == found["Kick-Soft.wav"]["fold"]  # kits that share a file are one kit
    assert test_files(tmp_path) >= set(files)


def test_every_rule_yields_whole_rows() -> None:
    packages = {package for task in TASKS.values() for package in task.packages}
    files = [f"{package}/music/{number}.ogg" for package in sorted(packages) for number in range(10)]
    assert test_paths(rows(files)) <= set(files)


def test_tables_point_from_where_they_lie(corpus: Path) -> None:
    with write_labels("drum-hit", corpus, corpus / "tasks" / "drums.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[0]["path"].startswith("../hydrogen-")
    assert list(table[0]) == ["path", "label", "split", "fold", "group"]


def test_says_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no task 'drums'"):
        offline_labels("drums", corpus)
    with pytest.raises(DataError, match="unheard data fetch wesnoth"):
        offline_labels("speech-music-effect", corpus)
    with pytest.raises(DataError, match="fetch a corpus"):
        offline_labels("drum-hit", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("task", "clips", "tested", "classes"),
    [("gm-family", 1792, 896, 14), ("gm-pitch", 1792, 896, 8), ("gm-pitch-programs", 896, 224, 8)],
)
def test_notes(tmp_path: Path, task: str, clips: int, tested: int, classes: int) -> None:
    assert task in GM_TASKS
    found = offline_labels(task, tmp_path)
    assert len(found) == len({row["path"] for row in found}) == clips
    assert sum(row["split"] == "test" for row in found) == tested
    assert len({row["label"] for row in found}) == classes
    sides: dict[str, set[str]] = {}
    for row in found:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())


class FakeSynth:
    """A synthesiser that plays full-scale squares."""

    def __init__(self, samplerate: int, gain: float) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: 0

    def generate(self, samples: int) -> memoryview:
        return memoryview(np.full(2 * samples, 1.5, np.float32).tobytes())


def test_notes_are_rendered_next_to_the_table(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinysoundfont", type(sys)("tinysoundfont"))
    sys.modules["tinysoundfont"].Synth = FakeSynth  # type: ignore[attr-defined]
    monkeypatch.setattr("unheard.datasets.notes.PROGRAMS", range(2))
    with pytest.raises(DataError, match="lacks the soundfont fluid-soundfont-gm"):
        write_labels("gm-pitch", corpus, tmp_path / "gm.csv")
    for package in ("fluid-soundfont-gm", "timgm6mb-soundfont"):
        (corpus / package).mkdir()
        (corpus / package / "a.sf2").touch()
    with write_labels("gm-pitch", corpus, tmp_path / "gm.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 32
    for row in table:
        note = soundfile.info(tmp_path / row["path"])
        assert (note.frames, note.samplerate) == (48000, 16000)


def test_an_existing_table_is_replaced_only_with_overwrite(corpus: Path, tmp_path: Path) -> None:
    table = tmp_path / "drums.csv"
    for verb in (["labels", "drum-hit", str(corpus)], ["captions", str(corpus)]):
        table.write_text("labelled by hand")
        assert main(["data", *verb, "-o", str(table)]) == 2
        assert table.read_text() == "labelled by hand"
        assert main(["data", *verb, "-o", str(table), "--overwrite"]) == 0
        assert table.read_text() != "labelled by hand"
