"""Real tasks as HEAR folders, with short synthetic files in place of the real ones."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.data.corpus import open_corpus
from unheard.data.label_table import read_labels
from unheard.data.manifest import COLUMNS, read_manifest
from unheard.datasets.drum_events import GAP, Hit, place
from unheard.datasets.filename_labels import test_paths
from unheard.datasets.filename_rules import TASKS
from unheard.datasets.hear_tasks import HEAR_TASKS, TaskOptions, build_task, packages_of
from unheard.datasets.write_hear_folder import Item, TaskSpec, write_folder
from unheard.errors import ConfigError, DataError
from unheard.files import write_table

KITS = "hydrogen-drumkits/hydrogen/data/drumkits"
DRUMS = ("kick", "snare", "hat", "tom", "crash")
TRAINED = ("A", "B", "C", "D", "E", "F")


def corpus_of(root: Path, files: dict[str, str], seconds: float = 0.3, held_out: bool = True) -> Path:
    """A fetched corpus with files of noise: path -> domain."""
    rows = []
    for number, (path, domain) in enumerate(files.items()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).standard_normal(round(16000 * seconds)) * np.linspace(
            0.2, 0.0, round(16000 * seconds)
        )
        soundfile.write(root / path, noise, 16000)
        rows.append(
            {
                **dict.fromkeys(COLUMNS, ""),
                "path": path,
                "package": path.split("/")[0],
                "seconds": "60",
                "domain": domain,
            }
        )
    tested = test_paths(rows) if held_out else set()
    write_table(
        root / "manifest.csv", COLUMNS, [row | {"heldout": "1" if row["path"] in tested else ""} for row in rows]
    )
    return root


@pytest.fixture
def drums(tmp_path: Path) -> Path:
    kits = (*TRAINED, "ForzeeStereo", "HardElectro1")
    files = {f"{KITS}/{kit}/{drum}.wav": "effects" for kit in kits for drum in DRUMS}
    files |= {
        f"{package}/music/{number}.wav": "music"
        for package in ("wesnoth-1.16-music", "ufoai-music")
        for number in range(8)
    }
    return corpus_of(
        tmp_path / "corpus", files | {"hydrogen-data/hydrogen/data/drumkits/GMRockKit/kick.wav": "effects"}
    )


def answers(folder: Path, split: str) -> dict[str, list[str]]:
    return dict(json.loads((folder / f"{split}.json").read_text()))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_folds_test_every_clip_once_and_keep_kits_whole(drums: Path, tmp_path: Path) -> None:
    report = build_task("drum-hit", tmp_path / "tasks", drums)
    assert report.folder.name == "drum_hit-v1-folds"
    assert report.not_held_out == 0
    metadata = json.loads((report.folder / "task_metadata.json").read_text())
    assert metadata["split_mode"] == "presplit_kfold"
    assert metadata["splits"] == [f"fold{number:02d}" for number in range(5)] == list(report.clips)
    assert metadata["nfolds"] == 5
    assert metadata["sample_duration"] == 2.0
    assert (report.folder / "labelvocabulary.csv").read_text().split() == [
        "idx,label",
        "0,cymbal",
        "1,hat",
        "2,kick",
        "3,snare",
        "4,tom",
    ]
    homes = defaultdict(set)
    for row in table(report.folder):
        homes[row["group"]].add(row["fold"])
    assert all(len(home) == 1 for home in homes.values())
    names = [name for split in metadata["splits"] for name in answers(report.folder, split)]
    assert len(names) == len(set(names)) == 41
    for split in metadata["splits"]:
        assert {label for labels in answers(report.folder, split).values() for label in labels} == {
            "cymbal",
            "hat",
            "kick",
            "snare",
            "tom",
        }


def test_splits_are_the_tables_and_validation_is_of_other_kits(drums: Path, tmp_path: Path) -> None:
    options = TaskOptions((16000, 48000), seconds=0.5, mode="split")
    folder = build_task("drum-hit", tmp_path / "tasks", drums, options).folder
    assert folder.name == "drum_hit-v1-split"
    kits = defaultdict(set)
    for row in table(folder):
        kits[row["split"]].add(row["group"])
    assert kits["test"] == {"ForzeeStereo", "HardElectro1"}
    assert kits["valid"] and not kits["valid"] & kits["train"]
    for rate, row in itertools.product((16000, 48000), table(folder)):
        file = soundfile.info(folder / row["path"].replace("16000", str(rate), 1))
        assert (file.samplerate, file.frames, file.channels, file.subtype) == (rate, rate // 2, 1, "PCM_16")
    assert len(read_labels(folder / "labels.csv")) == len(table(folder))


def test_pretraining_leaves_out_what_is_tested(drums: Path, tmp_path: Path) -> None:
    training = {clip.path for clip in open_corpus(drums).clips}
    for mode in ("folds", "split"):
        folder = build_task("drum-hit", tmp_path / mode, drums, TaskOptions(mode=mode)).folder  # type: ignore[arg-type]
        tested = {row["source"] for row in table(folder) if row["split"] in ("", "test")}
        assert tested and not tested & training
    music = {row["path"] for row in read_manifest(drums) if row["domain"] == "music" and row["heldout"] == "1"}
    assert music and not music & training


def test_files_that_are_not_held_out_yet_are_counted(tmp_path: Path) -> None:
    files = {
        f"megaglest-data/{unit}_{action}.wav": "effects"
        for unit in "abcdefghijklmnopqrstuvwxyz"
        for action in ("ack", "die", "attack")
    }
    corpus = corpus_of(tmp_path / "corpus", files, held_out=False)
    report = build_task("unit-action", tmp_path / "tasks", corpus)
    assert report.not_held_out == len(files)
    assert "fetch it again before pre-training" in report.lines()[0]


def test_drum_events_are_where_the_table_has_them(drums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.datasets.drum_events.CLIPS", {"train": 8, "valid": 8, "test": 8})
    monkeypatch.setattr("unheard.datasets.hear_tasks.packages_of", lambda name: ("hydrogen-drumkits",))
    folders = [
        build_task("drum-events", tmp_path / name, drums, TaskOptions(seconds=4.0, seed=3)).folder
        for name in ("a", "b")
    ]
    for path in folders[0].rglob("*.wav"):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes()  # same seed, same bytes
    assert json.loads((folders[0] / "task_metadata.json").read_text())["embedding_type"] == "event"
    tracks = defaultdict(set)
    for row in table(folders[0]):
        tracks[row["split"]].add(row["source"])
    assert not tracks["test"] & (tracks["train"] | tracks["valid"]) and not tracks["valid"] & tracks["train"]
    for split in ("train", "valid", "test"):
        for events in answers(folders[0], split).values():
            assert events and all(0 <= each["start"] < each["end"] <= 4000 for each in events)  # type: ignore[index]


@pytest.mark.parametrize("seed", range(5))
def test_hits_of_one_kind_do_not_run_together(seed: int) -> None:
    hits = {label: [Hit(label, label, 0.0, 0.2), Hit(label, label, 0.1, 1.0)] for label in ("kick", "snare")}
    placed = place(hits, 8.0, np.random.default_rng(seed))
    assert placed == sorted(placed, key=lambda each: each.onset)
    for label in hits:
        same = [each for each in placed if each.hit.label == label]
        for first, second in itertools.pairwise(same):
            assert second.onset - first.onset - first.hit.seconds >= GAP - 1e-3


class FakeSynth:
    """A synthesiser that plays squares whose pitch tells nothing."""

    def __init__(self, samplerate: int, gain: float) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: 0

    def generate(self, samples: int) -> memoryview:
        return memoryview(np.full(2 * samples, 0.25, np.float32).tobytes())


def test_mixed_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinysoundfont", type(sys)("tinysoundfont"))
    sys.modules["tinysoundfont"].Synth = FakeSynth  # type: ignore[attr-defined]
    monkeypatch.setattr("unheard.datasets.note_mixtures.CLIPS", dict.fromkeys(("train", "valid", "test"), 30))
    for package in packages_of("gm-multilabel"):
        (tmp_path / "fonts" / package).mkdir(parents=True)
        (tmp_path / "fonts" / package / "a.sf2").touch()
    folder = build_task("gm-multilabel", tmp_path / "tasks", tmp_path / "fonts", TaskOptions(seconds=0.6)).folder
    metadata = json.loads((folder / "task_metadata.json").read_text())
    assert metadata["prediction_type"] == "multilabel"
    for split in metadata["splits"]:
        for labels in answers(folder, split).values():
            assert 1 <= len(labels) == len(set(labels)) <= 4
    sources = {(row["split"], row["source"].split("/")[1]) for row in table(folder)}
    assert sources == {("train", "fluid"), ("valid", "fluid"), ("test", "timgm6mb")}
    programs = {row["split"]: set() for row in table(folder)}
    for row in table(folder):
        programs[row["split"]].add(int(Path(row["source"]).stem.split("-")[0]))
    assert not programs["train"] & programs["valid"]
    with pytest.raises(ConfigError, match="leave --mode out"):
        build_task("gm-multilabel", tmp_path / "tasks", tmp_path / "fonts", TaskOptions(mode="folds"))


def test_long_tracks_give_crops_from_their_middle(tmp_path: Path) -> None:
    files = {
        f"{package}/music/{number}.wav": "music" for package in TASKS["soundtrack-id"].packages for number in range(8)
    }
    corpus = corpus_of(tmp_path / "corpus", files, seconds=2.0)
    rows = table(build_task("soundtrack-id", tmp_path / "tasks", corpus, TaskOptions(seconds=0.4)).folder)
    assert len(rows) == 3 * len(files)
    sides = defaultdict(set)
    for row in rows:
        sides[row["source"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())


def test_says_what_is_wrong(drums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data", "tasks", "drum-hit", "--corpus", str(drums), "-o", str(tmp_path / "tasks")]
    assert main(line) == 0
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["clips"]["fold00"] > 0
    for options, message in (
        (["--sample-rate", "8000"], "16000, 22050"),
        (["--seconds", "0"], "from 0.1 to 600"),
        (["--mode", "both"], "both"),
    ):
        assert main([*line, "--overwrite", *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["data", "tasks", "drums", "-o", str(tmp_path)]) == 2
    assert "choose all, or some of drum-hit" in capsys.readouterr().err
    assert main(["data", "tasks", "-o", str(tmp_path)]) == 2
    assert "name the tasks to build" in capsys.readouterr().err
    with pytest.raises(DataError, match="run: unheard data fetch hedgewars-data"):
        build_task("voice-id", tmp_path / "tasks", drums)
    tracks = corpus_of(tmp_path / "music", {f"{name}/music/1.wav": "music" for name in TASKS["soundtrack-id"].packages})
    with pytest.raises(ConfigError, match="has no mode folds; choose split"):
        build_task("soundtrack-id", tmp_path, tracks, TaskOptions(mode="folds"))


def test_packages_are_fetched_where_no_corpus_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(package: str, out: Path, track: object) -> None:
        fetched.append(package)
        units = itertools.product("abcdefghijklmnopqrstuvwxyz", ("ack", "die", "attack"))
        corpus_of(Path(out), {f"{package}/{unit}_{action}.wav": "effects" for unit, action in units})

    monkeypatch.setattr("unheard.datasets.hear_tasks.fetch", fetch)
    build_task("unit-action", tmp_path / "tasks")
    build_task("unit-action", tmp_path / "tasks", overwrite=True)  # what came once stays
    assert fetched == ["megaglest-data"]
    assert {path.name for path in (tmp_path / "tasks").iterdir()} == {".packages", "unit_action-v1-folds"}


def quiet(rate: int) -> np.ndarray:
    return np.zeros(10, np.float32)


def test_a_class_missing_from_a_split_is_an_error(tmp_path: Path) -> None:
    sheet = TaskSpec("toy", "split", 0.1, ("top1_acc",))
    items = [Item(split, split, (label,), quiet) for split, label in (("train", "a"), ("valid", "a"), ("test", "b"))]
    with pytest.raises(DataError, match="split train of task toy has no clip of b"):
        write_folder(sheet, items, tmp_path, (16000,))
    assert not list(tmp_path.iterdir())


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    sheet = TaskSpec("toy", "split", 0.1, ("top1_acc",))
    items = [
        Item(split + label, split, (label,), quiet) for split in ("train", "valid", "test") for label in ("100", "40")
    ]
    folder = write_folder(sheet, items, tmp_path, (16000,))
    assert (folder / "labelvocabulary.csv").read_text().split() == ["idx,label", "0,40", "1,100"]


def test_every_task_names_its_packages() -> None:
    assert all(packages_of(name) for name in HEAR_TASKS)
    assert set(TASKS) <= set(HEAR_TASKS)
